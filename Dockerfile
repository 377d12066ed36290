# syntax=docker/dockerfile:1
# The Python that the tests run on.
ARG PYTHON=3.11

FROM python:${PYTHON}-slim-bookworm AS build
COPY --from=ghcr.io/astral-sh/uv:0.9 /uv /bin/uv
# The native scan is compiled here; nothing of the compilers comes into the image.
COPY --from=rust:1.95-slim-bookworm /usr/local/rustup /usr/local/rustup
COPY --from=rust:1.95-slim-bookworm /usr/local/cargo /usr/local/cargo
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends gcc libc6-dev \
 && rm -rf /var/lib/apt/lists/*
ENV RUSTUP_HOME=/usr/local/rustup CARGO_HOME=/usr/local/cargo PATH=/usr/local/cargo/bin:$PATH
ENV UV_LINK_MODE=copy UV_NO_DEV=1 UV_PYTHON_DOWNLOADS=0 UV_PROJECT_ENVIRONMENT=/app
WORKDIR /src
# Dependencies change less often than the code: a layer of their own.
RUN --mount=type=cache,target=/root/.cache/uv \
    --mount=type=bind,source=uv.lock,target=uv.lock \
    --mount=type=bind,source=pyproject.toml,target=pyproject.toml \
    --mount=type=bind,source=native,target=native,rw \
    uv sync --locked --extra native --no-install-project
COPY pyproject.toml uv.lock README.md LICENSE ./
COPY topics topics
COPY native native
COPY pipeline pipeline
RUN --mount=type=cache,target=/root/.cache/uv uv sync --locked --extra native --no-editable

FROM python:${PYTHON}-slim-bookworm AS runtime
LABEL org.opencontainers.image.title="firstseen" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --system --gid 10001 firstseen \
 && useradd --system --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin firstseen \
 && install -d -o firstseen -g firstseen -m 0700 /var/lib/firstseen
COPY --from=build /app /app
ENV PATH=/app/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    FIRSTSEEN_STATE__DIRECTORY=/var/lib/firstseen
# By number: Kubernetes cannot tell from a name that it is not root.
USER 10001:10001
WORKDIR /var/lib/firstseen
# An image whose program cannot start is not built.
RUN ["firstseen", "rules", "check"]
VOLUME /var/lib/firstseen
EXPOSE 9100
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=6 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9100/healthz', timeout=4)"]
ENTRYPOINT ["firstseen"]
CMD ["worker"]
