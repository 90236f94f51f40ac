#!/usr/bin/env bash
#
# Makes the sample call recordings of this directory:
#
#   app-101/test-account-01/test-call-01.wav    PCM, 16 bits, 8 kHz
#   app-101/test-account-01/test-call-02.wav    G.711 mu-law, 8 kHz
#   app-101/test-account-01/test-call-03.flac   FLAC, 16 bits, 8 kHz
#   app-101/test-account-01/test-call-04.mp3    MP3, 48 kbit/s, 16 kHz
#
# Each is a short sales call between two synthetic voices: the caller is on
# channel 1 and the recipient on channel 2, with quiet line noise on both.
#
# Usage: synthesise.sh [directory]
#
# Without an argument the files go into the directory of this script, over the
# ones that are there. With the same versions of the tools, every run writes
# the same bytes.
#
# Needs the Debian packages espeak-ng, sox, flac and lame.

set -euo pipefail

# Neither the locale nor the tools' own option variables may change the result.
export LC_ALL=C
unset SOX_OPTS LAMEOPT

if (( $# > 1 )) || [[ ${1:-} == -* ]]; then
  echo "usage: ${0##*/} [directory]" >&2
  exit 2
fi

missing=()
for tool in espeak-ng sox soxi flac lame; do
  command -v "$tool" >/dev/null || missing+=("$tool")
done
if (( ${#missing[@]} )); then
  echo "${0##*/}: not found: ${missing[*]}; install the Debian packages espeak-ng, sox, flac and lame" >&2
  exit 1
fi

root=${1:-$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)}
account=$root/app-101/test-account-01

work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT

# espeak-ng sets up PulseAudio even when it only writes a file; without this a
# run leaves a directory in /tmp and one under ~/.config.
export PULSE_RUNTIME_PATH=$work/pulse

# -R: the same random numbers (noise, dither) on every run.
sox() { command sox -R -V1 "$@"; }

# conversation NAME RATE BAND CALLER RECIPIENT
#
# Reads "caller: text" and "recipient: text" lines, one a turn, and leaves the
# two-channel call in $work/NAME.wav (PCM, 16 bits). RATE is in Hz, BAND is the
# pass band of the line as sox's sinc takes it. CALLER and RECIPIENT are
# "voice speed pitch" for espeak-ng.
conversation() {
  local name=$1 rate=$2 band=$3 caller=$4 recipient=$5
  local dir=$work/$name
  local who text voice speed pitch turn=0 length file
  local channel1=() channel2=()
  mkdir "$dir"

  while IFS=: read -r who text; do
    turn=$((turn + 1))
    file=$dir/turn-$turn
    case $who in
      caller) read -r voice speed pitch <<<"$caller" ;;
      recipient) read -r voice speed pitch <<<"$recipient" ;;
      *) echo "${0##*/}: $name: no such speaker: $who" >&2; return 1 ;;
    esac
    espeak-ng -v "$voice" -s "$speed" -p "$pitch" -w "$file.wav" "${text# }"
    # Cut the silence at both ends, then leave a pause before the next turn.
    sox "$file.wav" -r "$rate" -b 32 "$file.sox" \
      silence 1 0.01 0.1% fade t 0.01 reverse \
      silence 1 0.01 0.1% fade t 0.01 reverse norm -4 pad 0 0.4
    # The other side says nothing for just as long.
    sox "$file.sox" "$file-quiet.sox" vol 0
    if [[ $who == caller ]]; then
      channel1+=("$file.sox")
      channel2+=("$file-quiet.sox")
    else
      channel1+=("$file-quiet.sox")
      channel2+=("$file.sox")
    fi
  done

  sox "${channel1[@]}" "$dir/speech-1.sox" pad 0.5 0.3
  sox "${channel2[@]}" "$dir/speech-2.sox" pad 0.5 0.3

  # Two stretches of one noise, so that the channels do not share theirs.
  length=$(soxi -s "$dir/speech-1.sox")
  sox -r "$rate" -c 1 -n -b 32 "$dir/noise.sox" \
    synth "$((2 * length))s" pinknoise vol -48 dB
  sox "$dir/noise.sox" "$dir/noise-1.sox" trim 0 "${length}s"
  sox "$dir/noise.sox" "$dir/noise-2.sox" trim "${length}s" "${length}s"

  # The recipient is a little quieter than the caller.
  sox -m -v 1 "$dir/speech-1.sox" -v 1 "$dir/noise-1.sox" "$dir/side-1.sox" sinc "$band"
  sox -m -v 0.7 "$dir/speech-2.sox" -v 1 "$dir/noise-2.sox" "$dir/side-2.sox" sinc "$band"
  sox -M "$dir/side-1.sox" "$dir/side-2.sox" -b 16 -e signed-integer "$work/$name.wav"
}

conversation test-call-01 8000 300-3400 "en-gb+f3 170 55" "en-us+m3 160 40" <<'END'
recipient: Harbour Office Supplies, Martin speaking.
caller: Hello Martin, this is Claire from Lantern Software. You asked about our stock planner.
recipient: Yes, we still count by hand.
caller: How many stores do you have?
recipient: Two. What would that cost?
caller: Forty euros a month for each.
recipient: That sounds fair. Can we see it on Thursday?
caller: Thursday it is. Goodbye, Martin.
END

conversation test-call-02 8000 300-3400 "en-us+m7 165 45" "en-gb-scotland+f2 165 60" <<'END'
recipient: Hello, Green Door Bakery.
caller: Hi, this is Tom from Millstone Flour. It is about your order for next week.
recipient: Oh good. I wanted to change that one.
caller: Sure. What would you like?
recipient: Twelve bags of rye, please, and only four of wheat.
caller: Twelve rye and four wheat, on Monday before seven?
recipient: Yes, that is fine. Thank you, Tom.
END

conversation test-call-03 8000 300-3400 "en-us+f4 170 50" "en-gb-x-rp+m1 160 35" <<'END'
recipient: Westbridge Cycling, Paul speaking.
caller: Hello Paul, it is Anna from Cobalt Insurance. Your policy ends this month.
recipient: Right. We have thirty six bikes now.
caller: Then it is nine percent more. I can mail you the offer.
recipient: Please do. Goodbye, Anna.
END

conversation test-call-04 16000 80-7000 "en-gb+m2 165 40" "en-us+f5 170 55" <<'END'
recipient: Hello, this is Julia.
caller: Hi Julia, David from Paperkite Travel. Did you get our quote?
recipient: I did, thank you. The hotel is lovely, but the dates do not work.
caller: Would the second week of June be better?
recipient: Yes, for eighteen people.
caller: Let me check. The rooms are free, and the price stays the same.
recipient: Then please book it.
caller: I will. Goodbye, Julia.
END

# The samples are 16-bit already, so writing them again needs no dither (-D).
sox -D "$work/test-call-01.wav" "$work/01.wav"
sox -D "$work/test-call-02.wav" -e mu-law "$work/02.wav"
flac --silent --best --no-padding --output-name="$work/03.flac" "$work/test-call-03.wav"
# -m s: plain stereo, in which neither channel is coded from the other.
lame --silent --cbr -b 48 -m s --resample 16 --noreplaygain \
  "$work/test-call-04.wav" "$work/04.mp3"

mkdir -p -- "$account"
cp -- "$work/01.wav" "$account/test-call-01.wav"
cp -- "$work/02.wav" "$account/test-call-02.wav"
cp -- "$work/03.flac" "$account/test-call-03.flac"
cp -- "$work/04.mp3" "$account/test-call-04.mp3"
