# syntax=docker/dockerfile:1
# Serves the shipped artifacts on the CPU: docker build -t luminanet . && docker run -p 8000:8000 luminanet
FROM python:3.11-slim AS build
WORKDIR /source
RUN python -m venv /venv
COPY requirements/serve.txt requirements/serve.txt
RUN /venv/bin/pip install --no-cache-dir -r requirements/serve.txt
COPY pyproject.toml README.md LICENSE ./
COPY luminanet luminanet
COPY training training
COPY export export
COPY serving serving
COPY benchmarks benchmarks
RUN /venv/bin/pip install --no-cache-dir --no-deps .

FROM python:3.11-slim
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin luminanet
COPY --from=build /venv /venv
COPY pretrained /app/pretrained
WORKDIR /app
USER 10001
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 LUMINANET_HOST=0.0.0.0
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/health/live', timeout=2)"]
ENTRYPOINT ["python", "-m", "serving"]
