#!/usr/bin/env bash
# Start what tests share limits and jobs through, PostgreSQL and Redis, where they do not answer:
#
#   tools/services.sh
#
# It prints their addresses and leaves them in .services, where the tests look. Addresses in
# APIXO_TEST_POSTGRES and APIXO_TEST_REDIS are taken as they are, and nothing is started for them.
# Whoever is root on Debian or Ubuntu need not have them: their packages are installed. Nothing of a
# server's configuration is changed; where it asks for a password, the tests get a role and a
# database of their own.
set -euo pipefail
cd "$(dirname "$0")/.."

kept=.services
usual_postgres=postgresql://postgres@127.0.0.1:5432/test
usual_redis=redis://127.0.0.1:6379/0
role=apixo_test
patience=30 # seconds for a server to answer

fail() {
    printf '%s\n' "$@" >&2
    exit 1
}

# need COMMAND PACKAGE: COMMAND is there, or its package is installed
need() {
    command -v "$1" >/dev/null && return
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        fail "There is no $1. Install the package $2, or say where a server is:" \
            "  export APIXO_TEST_POSTGRES=postgresql://user:password@host/database" \
            "  export APIXO_TEST_REDIS=redis://host:6379/0"
    fi
    echo "installing $2" >&2
    [ -n "${updated:-}" ] || apt-get -qq update >&2
    updated=yes
    DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends "$2" >/dev/null
}

# wait_for COMMAND...: until it succeeds
wait_for() {
    local left=$((patience * 5))
    until "$@"; do
        [ $((left--)) -gt 0 ] || return 1
        sleep 0.2
    done
}

kept_address() {
    sed -n "s/^$1=//p" "$kept" 2>/dev/null | tail -n 1
}

postgres_answers() {
    [ -n "$1" ] && PGCONNECT_TIMEOUT=5 psql --no-psqlrc --no-password -qAt "$1" -c 'SELECT 1' >/dev/null 2>&1
}

redis_answers() {
    [ "$(redis-cli -u "$usual_redis" ping 2>/dev/null)" = PONG ]
}

# as_postgres PROGRAM...: as the user that the server believes over its socket
as_postgres() {
    runuser -u postgres -- "$@"
}

# The cluster that runs, or the one that could: version, name and port
cluster() {
    pg_lsclusters --no-header | sort -k4,4r | awk '{print $1, $2, $3; exit}'
}

make_role() {
    local port=$1 password
    password=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
    # The password goes in by a pipe: what a command is given can be read by all.
    as_postgres psql --no-psqlrc -q -p "$port" -v ON_ERROR_STOP=1 postgres >&2 <<SQL
SELECT 'CREATE ROLE $role' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '$role') \gexec
ALTER ROLE $role LOGIN CREATEDB CREATEROLE PASSWORD '$password';
SELECT 'CREATE DATABASE $role OWNER $role'
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = '$role') \gexec
SQL
    postgres=postgresql://$role:$password@127.0.0.1:$port/$role
}

start_postgres() {
    need psql postgresql
    local address version name port
    for address in "$(kept_address APIXO_TEST_POSTGRES)" "$usual_postgres"; do
        if postgres_answers "$address"; then
            postgres=$address
            return
        fi
    done
    need pg_ctlcluster postgresql
    [ "$(id -u)" = 0 ] || fail "PostgreSQL does not answer at $usual_postgres." \
        "Run this as root, or set APIXO_TEST_POSTGRES."
    read -r version name port < <(cluster) || fail "pg_lsclusters knows no cluster of PostgreSQL"
    if ! pg_ctlcluster "$version" "$name" status >/dev/null; then
        echo "starting PostgreSQL $version" >&2
        pg_ctlcluster --skip-systemctl-redirect "$version" "$name" start >&2
    fi
    wait_for as_postgres psql --no-psqlrc -qAt -p "$port" -c '' postgres ||
        fail "PostgreSQL $version does not let the user postgres in over its socket, port $port"
    make_role "$port"
    postgres_answers "$postgres" || fail "PostgreSQL does not answer at 127.0.0.1:$port as $role"
}

start_redis() {
    need redis-cli redis-server
    redis=$usual_redis
    if ! redis_answers; then
        need redis-server redis-server
        echo "starting Redis" >&2
        redis-server --daemonize yes --bind 127.0.0.1 --port 6379 --save "" --appendonly no \
            --dir /tmp >/dev/null
        wait_for redis_answers || fail "Redis does not answer at $redis"
    fi
}

if [ -n "${APIXO_TEST_POSTGRES:-}" ]; then postgres=$APIXO_TEST_POSTGRES; else start_postgres; fi
if [ -n "${APIXO_TEST_REDIS:-}" ]; then redis=$APIXO_TEST_REDIS; else start_redis; fi

umask 077 # a password may be in it
printf '%s\n' "APIXO_TEST_POSTGRES=$postgres" "APIXO_TEST_REDIS=$redis" | tee "$kept.next"
mv "$kept.next" "$kept"
