# docker build --build-arg COMMIT="$(git describe --always --dirty --abbrev=40 --exclude='*')" -t training-job .
# docker run --rm --stop-timeout=60 --user "$(id -u):$(id -g)" -v "$PWD/data:/job/data" -v "$PWD/runs:/job/runs" \
#   training-job 4 train.epochs=1
#
# The arguments are launch/local.sh's: [ranks] [key=value ...]. One image for CPU and GPU (then --gpus=all
# --shm-size=1g). It needs no root, no user in /etc/passwd and nothing writable but the two volumes and /tmp
# (--read-only --tmpfs=/tmp). The build cache holds what was downloaded.
ARG BASE_IMAGE=docker.io/library/python:3.11.14-slim-bookworm

FROM ${BASE_IMAGE} AS tools
RUN python3 -m venv /opt/uv && /opt/uv/bin/pip install --no-cache-dir uv==0.13.9

FROM ${BASE_IMAGE}
WORKDIR /job
COPY --from=tools /opt/uv/bin/uv /usr/local/bin/uv
# The dependencies are a layer of their own, gigabytes that no change of the source moves. It is made in place:
# copied from another stage it would be written twice.
COPY requirements.lock ./
RUN --mount=type=cache,target=/root/.cache/uv \
    export UV_LINK_MODE=copy \
    && uv venv --python="$(command -v python3)" /opt/venv \
    && uv pip sync --python=/opt/venv/bin/python --compile-bytecode --require-hashes requirements.lock
ENV PATH=/opt/venv/bin:$PATH PYTHON=/opt/venv/bin/python HOME=/tmp NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY configs configs
COPY launch launch
COPY src src
# There is no .git here: provenance.json takes the commit from this variable. It is above a RUN because buildah's
# cache looks for a changed argument only there.
ARG COMMIT=""
# The bytecode is trusted unseen: the source here never changes, and its folder is read-only.
RUN python -m compileall -q --invalidation-mode=unchecked-hash launch src \
    && install -d -m 1777 data runs
ENV IMAGE_COMMIT=$COMMIT
LABEL org.opencontainers.image.title="distributed-training-job" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision=$COMMIT
VOLUME ["/job/data", "/job/runs"]
USER 65532:65532
# No HEALTHCHECK: the job ends by itself when it hangs (train.timeout_seconds), and status.json says how it is.
ENTRYPOINT ["launch/local.sh"]
