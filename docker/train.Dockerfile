# syntax=docker/dockerfile:1
# tcs-edge with a GPU. Build in the folder of the repository:
#   docker build -f docker/train.Dockerfile -t tcs-edge .
#   docker run --rm --gpus all --shm-size 2g --user "$(id -u):$(id -g)" -v "$PWD:/work" tcs-edge doctor
FROM nvidia/cuda:12.8.1-base-ubuntu24.04

# The versions of Ubuntu's packages change with its security updates, so they are not pinned.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/tcs-edge

ENV PATH=/opt/tcs-edge/bin:$PATH \
    PYTHONUNBUFFERED=1
WORKDIR /src
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY tcs_edge tcs_edge
COPY targets targets
COPY profiles profiles
# torch's wheel brings its own CUDA libraries; the base image gives access to the driver. The package is this folder,
# so it has no version to pin.
# hadolint ignore=DL3013
RUN pip install --no-cache-dir '.[train,parquet,hub]'

# Any user may run it: caches go below HOME, runs into the mounted folder.
RUN useradd --uid 10001 --create-home trainer \
    && mkdir --mode 1777 /cache
ENV HOME=/cache \
    HF_HOME=/cache/huggingface \
    TCS_EDGE_CACHE=/cache/tcs-edge
USER 10001
WORKDIR /work
ENTRYPOINT ["tcs-edge"]
CMD ["--help"]
