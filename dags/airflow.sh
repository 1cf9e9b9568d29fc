#!/usr/bin/env bash
# Airflow on this machine: API server, DAG processor, scheduler and triggerer in one process group. `make airflow` calls it.
#
# Settings, all optional: NIGHTLOG_AIRFLOW_HOME (metadata, logs, log-in; default: the folder `airflow`), NIGHTLOG_AIRFLOW_PORT (8080),
# NIGHTLOG_AIRFLOW_DB (PostgreSQL instead of SQLite: postgresql+psycopg2://user:password@host/name), UNPAUSE=1 (starts the schedules).
# The DAGs inherit NIGHTLOG_LAKE, NIGHTLOG_DATA, NIGHTLOG_SYSTEMS, OPENAI_API_KEY and the other settings of Nightlog.
# With arguments it runs that command of Airflow on the same metadata: dags/airflow.sh dags list
set -euo pipefail
cd "$(dirname "$0")/.."

export AIRFLOW_HOME=${NIGHTLOG_AIRFLOW_HOME:-$PWD/airflow}
port=${NIGHTLOG_AIRFLOW_PORT:-8080}
url=http://127.0.0.1:$port
export AIRFLOW__API__HOST=127.0.0.1 AIRFLOW__API__PORT=$port AIRFLOW__API__BASE_URL=$url AIRFLOW__API__WORKERS=1
export AIRFLOW__CORE__EXECUTION_API_SERVER_URL=$url/execution/
export AIRFLOW__CORE__DAGS_FOLDER=$PWD/dags AIRFLOW__CORE__LOAD_EXAMPLES=False
export AIRFLOW__CORE__PARALLELISM=${AIRFLOW__CORE__PARALLELISM:-2}
# SQLite has one writer: the second one waits.
export AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=${NIGHTLOG_AIRFLOW_DB:-sqlite:///$AIRFLOW_HOME/airflow.db?timeout=60}
airflow=$PWD/.venv-airflow/bin/airflow
fail() { printf 'airflow: %s\n' "$@" >&2; exit 1; }
[[ -x $airflow ]] || fail "$airflow is not there: run \`make setup\` first"
if (($#)); then exec "$airflow" "$@"; fi

if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
    fail "port $port is in use: stop what listens there, or name another one: NIGHTLOG_AIRFLOW_PORT=8081 make airflow"
fi
mkdir -p "$AIRFLOW_HOME"
chmod 700 "$AIRFLOW_HOME"
once() { "$airflow" "$@" >"$AIRFLOW_HOME/start.log" 2>&1 || { cat "$AIRFLOW_HOME/start.log" >&2; fail "\`airflow $*\` failed"; }; }
once db migrate
once dags reserialize
[[ -z ${UNPAUSE:-} ]] || once dags unpause --yes --treat-dag-id-as-regex 'nightlog_.*'

declare -A parts
start() {
    "$airflow" "$@" >>"$AIRFLOW_HOME/$1.log" 2>&1 &
    parts[$!]=$1
}
stop() {
    trap - INT TERM EXIT
    kill -TERM "${!parts[@]}" 2>/dev/null || true
    wait
}
trap 'stop; exit 0' INT TERM
trap stop EXIT

start api-server # the first one: a task that begins before it answers has lost a try
for ((second = 0; ; second++)); do
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break
    ((second < 180)) && kill -0 "${!parts[@]}" 2>/dev/null || fail "the API server did not start; see $AIRFLOW_HOME/api-server.log"
    sleep 1
done
start dag-processor
start scheduler --skip-serve-logs # task logs are read from the folder: nothing listens on other addresses than 127.0.0.1
start triggerer --skip-serve-logs

passwords=$AIRFLOW_HOME/simple_auth_manager_passwords.json.generated
echo "Airflow: $url   log-in: admin / $(grep -Eo '"admin": *"[^"]+"' "$passwords" 2>/dev/null | cut -d'"' -f4)"
if [[ -n ${UNPAUSE:-} ]]; then
    echo "The schedules are on: the night of yesterday begins now if it has not been run, then every night at 02:00 UTC."
else
    echo "The schedules are off. Switch nightlog_nightly on in the list of DAGs, or start with UNPAUSE=1."
fi
echo "Logs: $AIRFLOW_HOME/*.log. Ctrl-C ends all parts."

ended=0
wait -n -p ended "${!parts[@]}" || true
fail "${parts[$ended]} ended by itself; see $AIRFLOW_HOME/${parts[$ended]}.log"
