# Images of Nightlog: `read` reads a lake, `jobs` runs nights, `airflow` schedules them (compose.yaml).
#     docker build --target jobs -t nightlog-jobs .
# A base of your own, with Debian 12's packages: --build-arg BASE=registry.example.org/debian:bookworm-slim
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS base
RUN apt-get update && apt-get install -y --no-install-recommends python3.11 ca-certificates && rm -rf /var/lib/apt/lists/*
RUN useradd --system --uid 50000 --user-group --home-dir /var/lib/nightlog --create-home nightlog
ENV PATH=/opt/nightlog/.venv/bin:$PATH PYTHONUNBUFFERED=1 NIGHTLOG_LAKE=/lake
RUN mkdir -p /lake && chown nightlog:nightlog /lake

FROM base AS build
RUN apt-get update && apt-get install -y --no-install-recommends python3.11-venv
RUN python3.11 -m venv /opt/uv && /opt/uv/bin/pip install --no-cache-dir uv==0.13.9
ENV UV_PYTHON_DOWNLOADS=never UV_PYTHON=/usr/bin/python3.11 UV_NO_CACHE=1 UV_COMPILE_BYTECODE=1
WORKDIR /opt/nightlog
COPY pyproject.toml uv.lock README.md LICENSE ./
COPY libs libs
COPY jobs jobs
COPY dags dags
COPY conf conf

FROM build AS build-read
RUN /opt/uv/bin/uv sync --frozen --no-dev --no-editable

FROM build AS build-jobs
RUN apt-get install -y --no-install-recommends openjdk-17-jre-headless
RUN /opt/uv/bin/uv sync --frozen --no-dev --no-editable --extra jobs
RUN .venv/bin/nightlog jars

FROM build AS build-airflow
RUN UV_PROJECT_ENVIRONMENT=.venv-airflow /opt/uv/bin/uv sync --frozen --only-group airflow

FROM base AS read
COPY --from=build-read /opt/nightlog/.venv /opt/nightlog/.venv
USER nightlog
WORKDIR /var/lib/nightlog
ENTRYPOINT ["nightlog"]
CMD ["--help"]

FROM base AS jobs
RUN apt-get update && apt-get install -y --no-install-recommends openjdk-17-jre-headless && rm -rf /var/lib/apt/lists/*
COPY --from=build-jobs /opt/nightlog/.venv /opt/nightlog/.venv
USER nightlog
WORKDIR /var/lib/nightlog
ENTRYPOINT ["nightlog"]
CMD ["--help"]

FROM jobs AS airflow
USER root
COPY --from=build-airflow /opt/nightlog/.venv-airflow /opt/nightlog/.venv-airflow
ENV AIRFLOW_HOME=/var/lib/nightlog/airflow AIRFLOW__CORE__DAGS_FOLDER=/opt/nightlog/.venv/share/nightlog/dags AIRFLOW__CORE__LOAD_EXAMPLES=False
RUN mkdir -p $AIRFLOW_HOME && chown nightlog:nightlog $AIRFLOW_HOME
USER nightlog
ENTRYPOINT ["/opt/nightlog/.venv-airflow/bin/airflow"]
CMD ["version"]
