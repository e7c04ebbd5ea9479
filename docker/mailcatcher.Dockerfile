# mailcatcher: the launcher's development inbox. Never for production: who opens its page can log in as anyone.
# Build from the repository's root: docker build -f docker/mailcatcher.Dockerfile -t portier/mailcatcher .
ARG PYTHON_IMAGE=python:3.11-slim

FROM ${PYTHON_IMAGE} AS builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY requirements/build.txt requirements/
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv /opt/build && /opt/build/bin/pip install --quiet --require-hashes -r requirements/build.txt
COPY requirements/launcher.txt requirements/
# dkimpy comes as source alone.
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv --without-pip /opt/venv && \
    /opt/build/bin/pip wheel --quiet --only-binary :all: --no-binary dkimpy --no-build-isolation -w /wheels \
    --require-hashes -r requirements/launcher.txt && \
    /opt/build/bin/pip --python /opt/venv/bin/python install --quiet --no-compile --no-deps --no-index /wheels/*.whl && \
    rm -r /wheels
COPY libs/service_kit libs/service_kit
COPY launcher launcher
RUN /opt/build/bin/pip wheel --quiet --no-index --no-deps --no-build-isolation -w /wheels \
    ./libs/service_kit ./launcher && \
    /opt/build/bin/pip --python /opt/venv/bin/python install --quiet --no-compile --no-deps --no-index /wheels/*.whl && \
    python -m compileall -q --invalidation-mode unchecked-hash /opt/venv/lib

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="Portier Broker: mailcatcher" \
      org.opencontainers.image.description="The development inbox" \
      org.opencontainers.image.licenses="MIT"
RUN useradd --system --uid 10001 --user-group --no-create-home --home-dir /nonexistent portier
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
EXPOSE 2525 3380
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=7s --retries=3 --start-period=30s --start-interval=1s \
    CMD ["python", "-m", "service_kit.healthcheck", "--port", "3380", "--path", "/version"]
ENTRYPOINT ["python", "/opt/mailcatcher.py"]
COPY --from=builder /opt/venv /opt/venv
COPY docker/mailcatcher.py /opt/mailcatcher.py
