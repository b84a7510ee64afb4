# Foliocast: command line, API and dashboard in one small image.
#   docker build -t foliocast .
#   docker build -t foliocast:cuda --build-arg TORCH_BACKEND=cu128 .     (run it with --gpus all)
ARG PYTHON_VERSION=3.11

FROM python:${PYTHON_VERSION}-slim AS build
# Which build of PyTorch: cpu, or cu126, cu128, ... for NVIDIA (its wheels bring their own CUDA libraries).
ARG TORCH_BACKEND=cpu
ARG EXTRAS=app,track,live
ENV UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 PIP_NO_CACHE_DIR=1
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
WORKDIR /build
RUN pip install "uv==0.13.*" && uv venv /opt/foliocast
# What it needs changes less often than what it is: a layer of its own.
COPY pyproject.toml constraints.txt ./
RUN uv pip install --no-cache --python /opt/foliocast --torch-backend "${TORCH_BACKEND}" \
    -c constraints.txt -r pyproject.toml $(echo ",${EXTRAS}" | sed 's/,/ --extra /g')
COPY README.md LICENSE ./
COPY src ./src
RUN uv build --wheel --out-dir dist \
    && uv pip install --no-cache --python /opt/foliocast --no-deps dist/*.whl

FROM python:${PYTHON_VERSION}-slim
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin foliocast \
    && install -d -o foliocast -g foliocast /data
COPY --from=build /opt/foliocast /opt/foliocast
ENV PATH=/opt/foliocast/bin:$PATH \
    FOLIOCAST_HOME=/data \
    HOME=/data \
    PYTHONUNBUFFERED=1 \
    OMP_NUM_THREADS=1 \
    OPENBLAS_NUM_THREADS=1 \
    MKL_NUM_THREADS=1 \
    MLFLOW_DISABLE_TELEMETRY=true
USER 10001
WORKDIR /data
VOLUME /data
EXPOSE 8600 8601 8602
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8600/health', timeout=4)"]
ENTRYPOINT ["foliocast"]
# The service asks for FOLIOCAST_API_TOKEN (16 characters or more) before it listens beyond loopback.
CMD ["serve", "--host", "0.0.0.0"]
