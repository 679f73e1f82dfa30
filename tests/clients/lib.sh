# What the suites share: counting, waiting, and brokers of their own. Sourced, not run.
#
# A suite is a program that reads BROKER (host:port), prints what it checks and ends in `N passed, N failed`.
# WEIR is the broker binary where a suite needs a process of its own to kill; empty when the run is against another
# broker.
set -uo pipefail
export LC_ALL=C

clients=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${WEIR_CLIENTS_CACHE:-$HOME/.cache/weir-clients}
work=${WORK:-$(mktemp -d "${TMPDIR:-/tmp}/weir-clients.XXXXXX")}
mkdir -p "$cache" "$work"

passed=0 failed=0

pass() { passed=$((passed + 1)); echo "  ok: $1"; }
fail() { failed=$((failed + 1)); echo "  FAILED: $1"; [ -z "${2:-}" ] || printf '%s\n' "$2" | tail -n 25 | sed 's/^/      /'; }

# check WHAT COMMAND…: passes when the command does; shows its output and returns 1 when it does not.
check() {
  local what=$1 out; shift
  if out=$("$@" 2>&1); then pass "$what"; else fail "$what" "$out"; return 1; fi
}

# same WHAT EXPECTED GOT
same() { if [ "$2" = "$3" ]; then pass "$1"; else fail "$1" "expected: ${2:0:400}"$'\n'"got:      ${3:0:400}"; fi; }

# has WHAT PATTERN TEXT
has() { if grep -qE -- "$2" <<<"$3"; then pass "$1"; else fail "$1" "no $2 in:"$'\n'"$3"; fi; }

finish() { echo "$passed passed, $failed failed"; [ "$failed" -eq 0 ]; }

# eventually SECONDS COMMAND…: whether the command comes to pass.
eventually() {
  local end=$((SECONDS + $1)); shift
  until "$@"; do [ "$SECONDS" -lt "$end" ] || return 1; sleep 0.1; done
}

free_port() {
  local port
  for _ in $(seq 200); do
    port=$((RANDOM % 12000 + 18000))
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
  done
  return 1
}

# ready PID ADMIN_PORT: waits until the broker answers its health check.
ready() {
  for _ in $(seq 300); do
    kill -0 "$1" 2>/dev/null || return 1
    if (exec 3<>"/dev/tcp/127.0.0.1/$2"; printf 'GET /health/ready HTTP/1.0\r\n\r\n' >&3; head -n 1 <&3 | grep -q ' 200 ') 2>/dev/null; then
      return 0
    fi
    sleep 0.1
  done
  return 1
}

# own_start DIR [FLAGS…]: a broker of the suite's own; sets own_pid, own (host:port) and own_dir.
own_start() {
  own_dir=$1; shift
  local port=${own_port:-$(free_port)} admin
  admin=$(free_port)
  own_port=$port own=127.0.0.1:$port
  "$WEIR" serve --data-dir "$own_dir" --listen "$own" --admin "127.0.0.1:$admin" "$@" 2>>"$own_dir.log" </dev/null &
  own_pid=$!
  ready "$own_pid" "$admin" || { echo "the broker did not start:"; tail -n 30 "$own_dir.log"; return 1; }
}

own_kill() { kill -9 "$own_pid"; wait "$own_pid" 2>/dev/null; own_pid=; }

# own_stop: asks nicely; the exit code is the broker's.
own_stop() { kill -TERM "$own_pid"; wait "$own_pid"; local code=$?; own_pid=; return "$code"; }

# own_stops WHAT: a check that the broker stops when asked, with its log when it does not.
own_stops() { if own_stop; then pass "$1"; else fail "$1" "$(cat "$own_dir.log")"; fi; }

# missing TOOL…: whether one of these is not installed.
missing() { local tool; for tool in "$@"; do command -v "$tool" >/dev/null || return 0; done; return 1; }

# apt PACKAGE…: installs Debian packages, once the lists are there.
apt() {
  local sudo=; [ "$(id -u)" -eq 0 ] || sudo=sudo
  [ -n "${apt_updated:-}" ] || { $sudo apt-get update -qq >"$work/apt.log" 2>&1; apt_updated=1; }
  DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends "$@" >>"$work/apt.log" 2>&1 ||
    { echo "apt-get install $* failed:"; tail -n 15 "$work/apt.log"; return 1; }
}

# group_of_three COMMAND…: members of a group share six partitions, one dies, one leaves, and the group goes on where it
# was. A member is the command: it prints `got VALUE` and, after each rebalance, `assigned:` with its partitions as `[0]`,
# or `revoked:`; it leaves and commits when it is asked to stop. send FIRST LAST is the suite's.
group_of_three() {
  local members reached=300 pids=() member=("$@")
  members=$(mktemp -d "$work/group.XXXXXX")
  start() { "${member[@]}" >"$members/$1" 2>&1 & pids[$1]=$!; }
  stop() { kill "-$1" "${pids[$2]}"; wait "${pids[$2]}" 2>/dev/null; }
  owned() { grep -aE 'assigned:|revoked:' "$members/$1" | tail -n 1 | awk '/assigned:/ { print gsub(/\[/, ""); next } { print 0 }'; }
  shares() { local i=0 n; for n in "$@"; do i=$((i + 1)); [ "$(owned "$i")" = "$n" ] || return 1; done; }
  got() { [ "$(cat "$members"/[$1] | grep -a '^got [0-9]' | sort -u | wc -l)" -ge "$2" ]; }
  all_got() { eventually 20 got 1-3 "$reached" || { tail -n 5 "$members"/*; return 1; }; }
  steps() {
    start 1; start 2; start 3
    eventually 30 shares 2 2 2; send 1 300
    check "a group of three shares six partitions" all_got || return
    stop KILL 3
    eventually 30 shares 3 3; send 301 600; reached=600
    check "a member that dies is replaced" all_got || return
    stop TERM 2
    check "a member that leaves is replaced" eventually 10 shares 6 || return
    stop TERM 1
    send 601 700
    start 4
    eventually 30 got 4 100
    sleep 0.5
    stop TERM 4
    same "a group resumes where it committed" "$(seq -f 'got %g' 601 700)" "$(grep -a '^got [0-9]' "$members/4" | sort)"
  }
  steps 2>/dev/null
  kill -9 "${pids[@]}" 2>/dev/null
}
