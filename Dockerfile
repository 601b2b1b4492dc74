# An image with everything for a machine with an NVIDIA GPU (driver and container toolkit on the host).
#
#   docker build --tag distillpipe .
#   docker run --gpus all --rm --volume "$PWD:/workspace" distillpipe doctor
#
# Nobody has built this file yet: the machines that test the project have no Docker.
FROM python:3.12-slim

ARG EXTRAS=vllm,hub,qlora,select,report

# A compiler for the kernels that vLLM compiles at its start; bubblewrap for the programs that models write.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends bubblewrap build-essential make \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/distillpipe
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY distillpipe ./distillpipe
RUN pip install --no-cache-dir --constraint constraints.txt ".[${EXTRAS}]"
COPY data ./data
COPY recipes ./recipes

# Weights of the hub stay outside of the container when a volume is mounted here.
ENV HF_HOME=/workspace/.cache/huggingface
WORKDIR /workspace
ENTRYPOINT ["distill"]
CMD ["--help"]
