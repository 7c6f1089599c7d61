#!/usr/bin/env bash
# Makes .venv ready for `run` or `test`; does nothing when it is already.
#
#   scripts/bootstrap.sh run     the library and what examples/shop needs
#   scripts/bootstrap.sh test    that, and everything the checks and tests need
#
# Works on a fresh Debian with make and python3: what the system lacks is installed with apt-get, when we are
# root or may use sudo. Python packages are installed again only when pyproject.toml or the Python changed.
set -euo pipefail
cd "$(dirname "$0")/.."
level=${1:-run}
venv=.venv
log=$(mktemp)
trap 'rm -f "$log"' EXIT

step() { printf '  \033[2m·\033[0m %s\n' "$*" | if [ -t 1 ]; then cat; else sed 's/\x1b\[[0-9]*m//g'; fi; }
fail() { printf 'bootstrap: %s\n' "$*" >&2; exit 1; }

# Runs a command quietly; shows what it said only when it failed.
quietly() {
  if ! "$@" >"$log" 2>&1; then
    tail -n 40 "$log" >&2
    fail "this failed: $*"
  fi
}

# The newest Python there is, from 3.11 on.
find_python() {
  local name
  for name in python3.14 python3.13 python3.12 python3.11 python3 python; do
    if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$name"
      return
    fi
  done
  return 1
}

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif command -v sudo >/dev/null; then sudo "$@"
  else return 1
  fi
}

# Installs Debian packages; says what to do where it cannot.
system_packages() {
  command -v apt-get >/dev/null || fail "please install: $* (this system has no apt-get)"
  step "installing $* with apt-get"
  if ! { as_root apt-get update -qq &&
         as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"; } >"$log" 2>&1
  then
    tail -n 20 "$log" >&2
    fail "please install these packages yourself: $*"
  fi
}

# A virtual environment holds the Python it was made with, so an existing one decides.
if [ -x "$venv/bin/python" ]; then
  python=$venv/bin/python
else
  python=$(find_python) || { system_packages python3 python3-venv; python=$(find_python); } ||
    fail "Tenfold needs Python 3.11 or newer; none was found."
fi

wanted=$({ cat pyproject.toml; "$python" -VV; pwd; } | sha256sum | cut -d' ' -f1)
# What tests need includes what the shop needs.
for done_level in "$level" test; do
  if [ "$(cat "$venv/.tenfold-$done_level" 2>/dev/null)" = "$wanted" ]; then exit 0; fi
done

if [ ! -x "$venv/bin/python" ]; then
  if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    system_packages "python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"
  fi
  step "making $venv with $("$python" -V)"
  quietly "$python" -m venv --clear "$venv"
fi

if [ "$level" = test ]; then
  missing=()
  command -v git >/dev/null || missing+=(git)
  command -v curl >/dev/null || missing+=(curl)
  # The Node that runs pyright comes with pip, but links to this.
  [[ $(ldconfig -p 2>/dev/null) == *libstdc++.so.6* ]] || missing+=(libstdc++6)
  # Servers that tests start for themselves, on free ports with folders of their own.
  ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || command -v postgres >/dev/null || missing+=(postgresql)
  command -v mariadbd >/dev/null || [ -x /usr/sbin/mariadbd ] || missing+=(mariadb-server)
  command -v redis-server >/dev/null || missing+=(redis-server)
  command -v memcached >/dev/null || missing+=(memcached)
  command -v pgbouncer >/dev/null || [ -x /usr/sbin/pgbouncer ] || missing+=(pgbouncer)
  command -v rabbitmq-server >/dev/null || [ -x /usr/sbin/rabbitmq-server ] || missing+=(rabbitmq-server)
  command -v nats-server >/dev/null || [ -x /usr/sbin/nats-server ] || missing+=(nats-server)
  command -v nginx >/dev/null || [ -x /usr/sbin/nginx ] || missing+=(nginx)
  command -v haproxy >/dev/null || [ -x /usr/sbin/haproxy ] || missing+=(haproxy)
  # Judges the unit that `tenfold up --systemd` prints; nothing of it has to run.
  command -v systemd-analyze >/dev/null || missing+=(systemd)
  command -v java >/dev/null || missing+=(default-jre-headless)
  # Monitoring systems that judge what is written for them.
  command -v promtool >/dev/null || missing+=(prometheus)
  command -v amtool >/dev/null || missing+=(prometheus-alertmanager)
  [ -x /usr/sbin/nagios4 ] || missing+=(nagios4-core)
  [ -x /usr/sbin/zabbix_agentd ] || missing+=(zabbix-agent)
  if [ ${#missing[@]} -gt 0 ]; then system_packages "${missing[@]}"; fi
  # Only the tests marked `browser` need it, so that they alone fail without it.
  command -v chromium >/dev/null || command -v google-chrome >/dev/null || (system_packages chromium) ||
    step "going on without Chromium"
fi

group=shop project=.
if [ "$level" = test ]; then group=dev project='.[granian,pydantic,test,postgresql,mysql,redis,memcached,rabbitmq,kafka,nats,sqs,dns,otlp]'; fi
pip=("$venv/bin/python" -m pip --disable-pip-version-check --no-input)
# Dependency groups (PEP 735) need pip 25.1.
if ! "${pip[@]}" install --help 2>/dev/null | grep -q -- --group; then
  step "updating pip"
  quietly "${pip[@]}" install --upgrade 'pip>=25.1'
fi
if [ "$level" = test ]; then step "installing what the tests need (once, a minute or two)"
else step "installing Tenfold and its libraries (once, under a minute)"
fi
quietly "${pip[@]}" install --editable "$project" --group "$group"
# Kafka and an SQS, kept outside of the checkout: Debian has no packages of them.
if [ "$level" = test ]; then "$venv/bin/python" scripts/brokers.py || fail "the tests' brokers are missing"; fi
# Only the tests of TypeScript clients need it, and are skipped by name without it.
if [ "$level" = test ]; then "$venv/bin/python" scripts/typescript.py || step "going on without TypeScript"; fi
printf '%s' "$wanted" >"$venv/.tenfold-$level"
step "ready"
