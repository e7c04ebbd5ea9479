# mailer: takes login mails from the queue and delivers them.
# Build from the repository's root: docker build -f docker/mailer.Dockerfile -t portier/mailer .
ARG PYTHON_IMAGE=python:3.11-slim

FROM ${PYTHON_IMAGE} AS builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY requirements/build.txt requirements/
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv /opt/build && /opt/build/bin/pip install --quiet --require-hashes -r requirements/build.txt
# What rarely changes comes first: a new commit builds only the last step anew.
COPY requirements/mailer.txt requirements/
# dkimpy comes as source alone.
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv --without-pip /opt/venv && \
    /opt/build/bin/pip wheel --quiet --only-binary :all: --no-binary dkimpy --no-build-isolation -w /wheels \
    --require-hashes -r requirements/mailer.txt && \
    /opt/build/bin/pip --python /opt/venv/bin/python install --quiet --no-compile --no-deps --no-index /wheels/*.whl && \
    rm -r /wheels
COPY libs libs
COPY services/mailer services/mailer
# Bytecode that is trusted without a look at its source, since neither ever changes: a quicker start.
RUN /opt/build/bin/pip wheel --quiet --no-index --no-deps --no-build-isolation -w /wheels \
    ./libs/shared_store ./libs/service_kit ./services/mailer && \
    /opt/build/bin/pip --python /opt/venv/bin/python install --quiet --no-compile --no-deps --no-index /wheels/*.whl && \
    python -m compileall -q --invalidation-mode unchecked-hash /opt/venv/lib

FROM ${PYTHON_IMAGE} AS service
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="Portier Broker: mailer" \
      org.opencontainers.image.description="Takes login mails from the queue and delivers them" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}"
RUN useradd --system --uid 10001 --user-group --no-create-home --home-dir /nonexistent portier
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    BROKER_INTERNAL_IP=0.0.0.0 \
    BROKER_INTERNAL_PORT=3392
# Relative names in the configuration, such as data_dir, are looked up here.
WORKDIR /srv/portier
USER 10001:10001
EXPOSE 3392
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=7s --retries=3 --start-period=30s --start-interval=1s \
    CMD ["python", "-m", "service_kit.healthcheck", "--path", "/readyz"]
ENTRYPOINT ["mailer"]
CMD ["run"]
COPY --from=builder /opt/venv /opt/venv

# The variant that a debugger can attach to; see docker/compose.debug.yaml.
FROM builder AS debug-builder
COPY requirements/debug.txt requirements/
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/build/bin/pip --python /opt/venv/bin/python install --quiet --require-hashes -r requirements/debug.txt

FROM service AS debug
COPY --from=debug-builder /opt/venv /opt/venv
EXPOSE 5678
ENTRYPOINT ["python", "-X", "frozen_modules=off", "-m", "debugpy", "--listen", "0.0.0.0:5678", "-m", "mailer"]

FROM service AS runtime
