//! The program as its user runs it: processes, signals, exit codes, what is printed.

mod admin;
mod browser;
mod cdn;
mod config;
mod confine;
mod curl;
mod descriptors;
mod doctor;
mod faults;
mod handover;
mod hubspot;
mod ingest;
mod keys;
mod load;
mod log;
mod memory;
mod packaging;
mod retention;
mod sight;
mod sound;
mod stall;
mod start;
mod stop;
mod tls;
mod url;
mod watch;
