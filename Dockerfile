# syntax=docker/dockerfile:1
# Serves on the CPU:           docker build -t luminanet .
# on an NVIDIA GPU:            docker build --build-arg RUNTIME=gpu -t luminanet:gpu .
# with artifacts frozen anew:  docker build --build-arg ARTIFACTS=frozen -t luminanet .
# Run it with nothing that can be written:
#   docker run --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges -p 8000:8000 luminanet
ARG RUNTIME=cpu
ARG ARTIFACTS=shipped

# The artifacts as they are in the repository.
FROM python:3.11-slim AS shipped
COPY pretrained /artifacts
RUN find /artifacts -name ckpt.pt -delete

# The same, made here of the checkpoints: the one stage that has torch.
FROM python:3.11-slim AS frozen
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY requirements requirements
COPY luminanet luminanet
COPY training training
COPY export export
RUN python -m venv /venv && /venv/bin/pip install --no-cache-dir -c requirements/dev.txt '.[cpu,export]'
COPY pretrained /artifacts
RUN set -e; for checkpoint in /artifacts/*/ckpt.pt; do \
        /venv/bin/python export/freeze.py "$checkpoint"; rm "$checkpoint"; \
    done

# hadolint ignore=DL3006
FROM ${ARTIFACTS} AS artifacts

# What the server imports, without pip, and what that is.
FROM python:3.11-slim AS build
ARG RUNTIME
WORKDIR /source
RUN python -m venv --without-pip /venv && python -m venv /tools \
    && /tools/bin/pip install --no-cache-dir cyclonedx-bom==7.5.0
COPY pyproject.toml README.md LICENSE ./
COPY requirements requirements
RUN if [ "$RUNTIME" = cpu ]; then set -- --no-deps -r requirements/serve.txt; \
    else set -- -c requirements/serve.txt ".[$RUNTIME]"; fi \
    && /tools/bin/pip --python /venv/bin/python install --no-cache-dir "$@"
COPY luminanet luminanet
COPY serving serving
RUN /tools/bin/pip --python /venv/bin/python install --no-cache-dir --no-deps --force-reinstall . \
    && /tools/bin/cyclonedx-py environment --output-reproducible --pyproject pyproject.toml \
        --output-file /venv/sbom.cdx.json /venv/bin/python

FROM python:3.11-slim AS run-cpu

FROM python:3.11-slim AS run-gpu
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility

# hadolint ignore=DL3006
FROM run-${RUNTIME}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="luminanet" \
      org.opencontainers.image.description="Serves LuminaNet and its GPT-2 baseline over HTTP" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.documentation="https://arxiv.org/abs/2601.19508"
COPY --from=build /venv /venv
COPY --from=artifacts /artifacts /app/pretrained
WORKDIR /app
USER 10001:10001
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    LUMINANET_HOST=0.0.0.0 LUMINANET_PORT=8000
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + os.environ['LUMINANET_PORT'] + '/health/live', timeout=2)"]
ENTRYPOINT ["python", "-m", "serving"]
