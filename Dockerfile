# Container image for x86-64 and ARM64:
#   docker buildx build --platform linux/amd64,linux/arm64 -t edge-camera .
#   docker run --rm --device /dev/video0 --group-add video --read-only --tmpfs /tmp \
#       -v /etc/edge:/etc/edge:ro -v edge-state:/var/lib/edge edge-camera
FROM python:3.11-slim-bookworm AS build
WORKDIR /src
COPY requirements.lock ./
RUN python -m venv /opt/edge
COPY pyproject.toml README.md LICENSE ./
COPY edge edge
COPY tools tools
COPY models models
COPY systemd systemd
# Versions from the lock file; its hashes are checked when `make setup` installs all of it.
RUN sed -nE 's/^([A-Za-z0-9._-]+==[^ ]+)( ;[^\\]*)?.*/\1\2/p' requirements.lock > constraints.txt \
    && /opt/edge/bin/pip install --no-cache-dir --constraint constraints.txt '.[web,metrics,registry,otlp]'

FROM python:3.11-slim-bookworm
COPY --from=build /opt/edge /opt/edge
RUN useradd --system --uid 990 --groups video --home-dir /var/lib/edge --create-home edge
USER 990
ENV STATE_DIRECTORY=/var/lib/edge PATH=/opt/edge/bin:$PATH
VOLUME /var/lib/edge
# Asks the running daemon; exit code 0: healthy, 3: a fault, 69: no daemon answers.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s CMD ["edge", "status", "/etc/edge/edge.yaml"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["edge"]
CMD ["run", "--config", "/etc/edge/edge.yaml"]
