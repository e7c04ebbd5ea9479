# key-rotator: makes, rotates and retires the signing keys.
# Build from the repository's root: docker build -f docker/key-rotator.Dockerfile -t portier/key-rotator .
ARG PYTHON_IMAGE=python:3.11-slim

FROM ${PYTHON_IMAGE} AS builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY requirements/build.txt requirements/
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv /opt/build && /opt/build/bin/pip install --quiet --require-hashes -r requirements/build.txt
# What rarely changes comes first: a new commit builds only the last step anew.
COPY requirements/key-rotator.txt requirements/
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv --without-pip /opt/venv && \
    /opt/build/bin/pip --python /opt/venv/bin/python install --quiet --no-compile --only-binary :all: \
    --require-hashes -r requirements/key-rotator.txt
COPY libs libs
COPY services/key-rotator services/key-rotator
# Bytecode that is trusted without a look at its source, since neither ever changes: a quicker start.
RUN /opt/build/bin/pip wheel --quiet --no-index --no-deps --no-build-isolation -w /wheels \
    ./libs/shared_store ./libs/service_kit ./services/key-rotator && \
    /opt/build/bin/pip --python /opt/venv/bin/python install --quiet --no-compile --no-deps --no-index /wheels/*.whl && \
    python -m compileall -q --invalidation-mode unchecked-hash /opt/venv/lib

FROM ${PYTHON_IMAGE} AS service
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="Portier Broker: key-rotator" \
      org.opencontainers.image.description="Makes, rotates and retires the signing keys" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}"
RUN useradd --system --uid 10001 --user-group --no-create-home --home-dir /nonexistent portier
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    BROKER_INTERNAL_IP=0.0.0.0 \
    BROKER_INTERNAL_PORT=3393
# Relative names in the configuration, such as data_dir, are looked up here.
WORKDIR /srv/portier
USER 10001:10001
EXPOSE 3393
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=7s --retries=3 --start-period=30s --start-interval=1s \
    CMD ["python", "-m", "service_kit.healthcheck", "--path", "/readyz"]
ENTRYPOINT ["key-rotator"]
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
ENTRYPOINT ["python", "-X", "frozen_modules=off", "-m", "debugpy", "--listen", "0.0.0.0:5678", "-m", "key_rotator"]

FROM service AS runtime
