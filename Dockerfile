# Images with longtake, made from the wheel that `make release-check` leaves in dist/. docs/guides/container.md explains them.
#
#   docker build --target cpu -t longtake:cpu .
#   docker build --target cuda -t longtake:cuda .
#
# Debian's packages are not pinned: a base image of a later day has later security fixes (hence `hadolint ignore=DL3008`).
# The root filesystem is never written to while a container runs: give /tmp as a tmpfs, /weights and /out as volumes.
ARG BASE=docker.io/library/debian:trixie-slim

FROM ${BASE} AS python
SHELL ["/bin/sh", "-eu", "-c"]
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates python3 \
 && rm -rf /var/lib/apt/lists/*

# ---- everything but PyTorch, each file with its hash
FROM python AS packages
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3-venv \
 && rm -rf /var/lib/apt/lists/*
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
COPY release/requirements-image.txt constraints.txt ./
RUN python3 -m venv /opt/longtake \
 && /opt/longtake/bin/pip install --require-hashes --no-deps -r requirements-image.txt
COPY dist/*.whl ./

# ---- PyTorch comes last and alone, from the index that suits the target
FROM packages AS environment-cpu
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN /opt/longtake/bin/pip install -c constraints.txt --extra-index-url "${TORCH_INDEX}" torch \
 && /opt/longtake/bin/pip install --no-deps ./*.whl \
 && /opt/longtake/bin/pip check

FROM packages AS environment-cuda
ARG TORCH_INDEX=https://download.pytorch.org/whl/cu130
RUN /opt/longtake/bin/pip install -c constraints.txt --extra-index-url "${TORCH_INDEX}" torch \
 && /opt/longtake/bin/pip install --no-deps ./*.whl \
 && /opt/longtake/bin/pip check

# ---- what runs: no root, no compiler, nothing that writes outside of /tmp, /weights and /out
FROM python AS runtime
RUN groupadd --gid 1000 longtake \
 && useradd --uid 1000 --gid 1000 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin longtake \
 && install -d -o 1000 -g 1000 /weights /out
COPY LICENSE NOTICE docs/third-parties.md /usr/share/doc/longtake/
ENV PATH=/opt/longtake/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/tmp \
    HF_HOME=/weights \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
LABEL org.opencontainers.image.title="longtake" \
      org.opencontainers.image.description="Endless video from open diffusion models. Contains PyAV's wheel with x264 and x265 (GPL)."
VOLUME ["/weights", "/out"]
WORKDIR /out
USER 1000:1000
ENTRYPOINT ["longtake"]
CMD ["--help"]

FROM runtime AS cuda
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=environment-cuda /opt/longtake /opt/longtake

FROM runtime AS cpu
COPY --from=environment-cpu /opt/longtake /opt/longtake
