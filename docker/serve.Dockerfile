# syntax=docker/dockerfile:1
# The HTTP service of a bundle, for amd64 and arm64. The build context is the folder of the bundle:
#   docker build -f docker/serve.Dockerfile -t pets pets-pi5
#   docker run --rm --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges -p 127.0.0.1:8080:8080 pets
# For a board, on another machine (needs qemu): docker buildx build --platform linux/arm64 ...
FROM python:3.12-slim-bookworm

ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /opt/classifier
COPY requirements.txt ./
RUN pip install --no-cache-dir --only-binary=:all: -r requirements.txt
COPY . ./
# The image is not built unless the files, the preprocessing and the outputs are those of the validation.
RUN python -I selfcheck.py --seconds 0.2 --out /tmp/selfcheck.json \
    && rm /tmp/selfcheck.json \
    && useradd --system --uid 10001 --no-create-home classifier

USER 10001
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-I", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/healthz', timeout=4)"]
ENTRYPOINT ["python", "-I", "serve.py", "--host", "0.0.0.0", "--port", "8080"]
