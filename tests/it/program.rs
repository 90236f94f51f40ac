//! The program as its user runs it: processes, signals, exit codes, what is printed.

mod keys;
mod start;
mod stop;
