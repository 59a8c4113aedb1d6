# syntax=docker/dockerfile:1
# Two images from one base: `web` (pages, commands, migrations; no torch) and `worker` (torch; also beat).
# docs/docker.md tells how to build and run them.

FROM python:3.11-slim AS base
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore \
    PYTHONUNBUFFERED=1 \
    QUERENT_HOME=/var/lib/querent \
    QUERENT_LOG_LEVEL=INFO
# web and worker write to the same volume, so both are this user
RUN groupadd --gid 10001 querent \
 && useradd --uid 10001 --gid querent --no-create-home --home-dir /var/lib/querent --shell /usr/sbin/nologin querent \
 && install --directory --owner=querent --group=querent --mode=0750 /var/lib/querent
WORKDIR /srv/querent
COPY pyproject.toml requirements.lock ./
# Other packages that the storage needs, such as s3fs.
ARG STORAGE_PACKAGES=""
# Installed with empty packages: the code comes later, in their place, and a change of it leaves this layer as it is.
# hadolint ignore=SC2086
RUN mkdir app worker migrations \
 && touch README.md LICENSE app/__init__.py worker/__init__.py migrations/__init__.py \
 && pip install -c requirements.lock -e . ${STORAGE_PACKAGES}

FROM base AS worker
# https://download.pytorch.org/whl/cu130 is for CUDA 13.0.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# From that index alone, so that it is this build of torch; what torch needs besides is on PyPI, at fixed versions.
RUN pip install -c requirements.lock --no-deps --index-url "${TORCH_INDEX}" torch torchvision \
 && pip install -c requirements.lock -e ".[worker]"
COPY app ./app
COPY worker ./worker
COPY migrations ./migrations
RUN python -m compileall -q app worker migrations
USER 10001:10001
VOLUME /var/lib/querent
# this worker's own sign of life, however many there are
HEALTHCHECK --interval=10s --timeout=10s --start-period=60s --retries=4 \
  CMD ["sh", "-c", "querent check --only worker | grep -qF \"$(hostname)-\""]
# one process: CUDA does not survive a fork, and one round uses all cores
CMD ["sh", "-c", "exec celery -A worker.main worker --pool=solo --concurrency=1 --without-gossip --without-mingle --without-heartbeat --loglevel=\"$QUERENT_LOG_LEVEL\""]

FROM base AS web
COPY app ./app
COPY migrations ./migrations
COPY templates ./templates
COPY static ./static
RUN python -m compileall -q app migrations
USER 10001:10001
VOLUME /var/lib/querent
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
  CMD ["python", "-c", "import sys, urllib.request as r; sys.exit(r.build_opener(r.ProxyHandler({})).open('http://127.0.0.1:8000/healthz', timeout=4).status != 200)"]
CMD ["uvicorn", "app.main:application", "--factory", "--host", "0.0.0.0", "--port", "8000", "--no-access-log", "--timeout-graceful-shutdown", "2"]
