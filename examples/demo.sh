#!/usr/bin/env bash
# The main job of amlaks, told as a story on a sandbox: `make demo`.
# Every step is checked; the first that is not as told ends it with an error. Nothing is left running.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
work=$root/.demo
export PATH=$root/bin:$PATH XDG_CACHE_HOME=${XDG_CACHE_HOME:-$HOME/.cache}
began=$SECONDS
daemon_pid=

bold=; plain=
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then bold=$'\e[1m'; plain=$'\e[0m'; fi
say()  { printf '\n%s== %s%s  [%ds]\n' "$bold" "$*" "$plain" $((SECONDS - began)); }
run()  { printf '$ %s\n' "$*"; "$@"; }
fail() { printf '\ndemo: not as told: %s\n' "$*" >&2; exit 1; }
expect() { # CODE PATTERN COMMAND...: the command's exit code and something it says
  local code=$1 pattern=$2 got=0 out; shift 2
  printf '$ %s\n' "$*"
  out=$("$@" 2>&1) || got=$?
  printf '%s\n' "$out"
  [ "$got" = "$code" ] || fail "exit code $got instead of $code"
  grep -Eq -- "$pattern" <<<"$out" || fail "it does not say: $pattern"
}
until_true() { # SECONDS WHAT COMMAND...
  local left=$(($1 * 2)) what=$2; shift 2
  until "$@" >"$work/last" 2>&1; do
    left=$((left - 1))
    [ "$left" -gt 0 ] || { cat "$work/last" >&2; [ -f "$work/daemon.log" ] && tail -n 30 "$work/daemon.log" >&2; fail "$what"; }
    sleep 0.5
  done
}
says() { local pattern=$1; shift; "$@" 2>&1 | grep -Eq -- "$pattern"; }
finish() {
  local code=$?
  [ -z "$daemon_pid" ] || { kill "$daemon_pid" 2>/dev/null || true; wait "$daemon_pid" 2>/dev/null || true; }
  amlaks-sandbox down --dir "$work/sandbox" >/dev/null 2>&1 || code=1
  [ "$code" = 0 ] || printf 'demo: failed after %ds; the sandbox is stopped, its files are in %s\n' $((SECONDS - began)) "$work" >&2
  exit "$code"
}

if [ -d "$work/sandbox" ]; then amlaks-sandbox down --dir "$work/sandbox" >/dev/null; fi
rm -rf "$work"
mkdir -p "$work"
trap finish EXIT

say "A sandbox: Azure Resource Manager, a registry, git, and a real Kubernetes control plane, on loopback"
run amlaks-sandbox up --dir "$work/sandbox" --model wine:1=examples/quickstart/model/1 --model wine:2=examples/quickstart/model/2
. "$work/sandbox/env"

say "A repository with amlaks.yaml, as a team would commit it"
cp -r examples/quickstart "$work/repo"
rm -f "$work/repo/.gitignore"
sed -i 's#\.\./\.\./schema#../../../schema#' "$work/repo/amlaks.yaml"
cd "$work/repo"
export GIT_AUTHOR_NAME=demo GIT_AUTHOR_EMAIL=demo@example.com GIT_COMMITTER_NAME=demo GIT_COMMITTER_EMAIL=demo@example.com
git init -q -b main .
run amlaks-sandbox repo --dir "$work/sandbox" models
git remote add origin "$SANDBOX_GIT_HTTP/models.git"
git add -A && git commit -q -m "The wine model on AKS" && git push -q origin main
grep -v '^ *#' amlaks.yaml | sed '/^$/d'

say "validate: offline, with line and column"
expect 0 'valid' amlaks validate
sed 's/agentCount: 1/agentCount: yes/; s/wine:1/wine:latest/' amlaks.yaml > broken.yaml
expect 7 'latest' amlaks validate -f broken.yaml
rm broken.yaml

say "plan: what would change; nothing is written"
expect 0 'to create' amlaks plan

say "apply: cluster, images, pods, and an address that answers"
run amlaks apply --yes
expect 0 'Healthy' amlaks status

say "score: with the service's key, and without"
# Of these two held-out wines version 1 gets the first right, and version 2 both (expected.json).
expect 0 '"predictions":\["class_1","class_2"\].*"wine:1"' amlaks score wine --data @request.json
expect 1 '401' amlaks score wine --data @request.json --no-auth

say "plan again: no changes; and nothing is written by a second apply"
expect 0 'no changes' amlaks plan
amlaks-sandbox requests --dir "$work/sandbox" --clear >/dev/null
expect 0 'no changes' amlaks apply --yes
amlaks-sandbox requests --dir "$work/sandbox" --service all > "$work/requests"
grep -q '"method":"GET"' "$work/requests" || fail "the second apply asked nothing"
if grep -v '"dryRun":' "$work/requests" | grep -E '"method":"(PUT|PATCH|DELETE)"'; then fail "the second apply wrote"; fi

say "daemon: a commit changes agentCount and the model's version"
amlaks daemon --git "$SANDBOX_GIT_HTTP/models.git" --ref main --interval 2s --listen 127.0.0.1:0 --work-dir "$work/daemon" 2>"$work/daemon.log" &
daemon_pid=$!
sed -i 's/agentCount: 1/agentCount: 2/; s/\[wine:1\]/[wine:2]/' amlaks.yaml
git diff --stat
git commit -q -am "wine:2 on two nodes" && git push -q origin main
until_true 90 "the daemon did not roll out wine:2" says '"wine:2"' amlaks score wine --data @request.json
until_true 90 "the daemon did not finish" says 'no changes' amlaks plan
grep -E 'msg=(differs|done)' "$work/daemon.log" | cut -c1-200 || true
expect 0 '"predictions":\["class_1","class_0"\].*"wine:2"' amlaks score wine --data @request.json

say "drift: somebody scales the Deployment, and then deletes it"
run amlaks-sandbox meddle --dir "$work/sandbox" --cluster demo --namespace amlaks-wine --scale wine=5
until_true 60 "drift was not put back" says 'no changes' amlaks plan
run amlaks-sandbox meddle --dir "$work/sandbox" --cluster demo --namespace amlaks-wine --delete wine
until_true 90 "the Deployment did not come back" says 'Healthy' amlaks status
grep -E 'address=kube/demo/Deployment/wine' "$work/daemon.log" | tail -n 4 | cut -c1-200

say "a bad commit is reported with its line, and changes nothing"
sed -i 's/cpu: 0.1/cpu: -1/' amlaks.yaml
git commit -q -am "a mistake" && git push -q origin main
until_true 30 "the daemon did not report the bad commit" grep -Eq 'amlaks.yaml:[0-9]+:[0-9]+: services\[0\].resources.cpu' "$work/daemon.log"
grep -E 'amlaks.yaml:[0-9]+:[0-9]+' "$work/daemon.log" | tail -n 1 | cut -c1-250
git revert --no-edit HEAD >/dev/null && git push -q origin main
expect 0 '"wine:2"' amlaks score wine --data @request.json

say "destroy"
kill "$daemon_pid"; wait "$daemon_pid" 2>/dev/null || true; daemon_pid=
run amlaks destroy --yes wine
expect 0 'to create' amlaks plan
run amlaks-sandbox down --dir "$work/sandbox"

say "All as told."
