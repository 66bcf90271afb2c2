# The service with the model of the package, on a CPU:
#   docker build -t retrieveall --build-arg TORCH_INDEX=URL .
#   docker run --rm -p 127.0.0.1:8080:8080 -e RETRIEVEALL_SERVE_KEY=... retrieveall
FROM python:3.11-slim

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1

# torch first and pinned: a layer of its own, since it hardly changes. A plain torch pulls gigabytes of CUDA packages:
# give the index of PyTorch's CPU builds with --build-arg TORCH_INDEX=URL.
ARG TORCH_INDEX=
COPY constraints.txt /tmp/
RUN pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} -c /tmp/constraints.txt torch

WORKDIR /source
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY src src
RUN pip install '.[serve,server-client]' && rm -rf /source && useradd --create-home --uid 10001 retrieveall

USER 10001
WORKDIR /home/retrieveall
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/readyz', timeout=4)"]
# In the container's own network; which ports are published is the operator's choice. SIGTERM finishes what runs.
ENTRYPOINT ["retrieveall", "serve", "--host", "0.0.0.0"]
CMD ["base"]
