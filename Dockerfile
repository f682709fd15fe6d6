# The operator's image: `docker build .`, or `make image` (hack/image), which also builds it where neither docker nor a
# registry can be had.
#
# BASE is any image with Python 3.13 and its venv module, and is what both stages build on: a virtual environment is of
# use to its own interpreter only. The digest is that of the index, for all architectures. For a newer one:
#   docker buildx imagetools inspect python:3.13-slim-trixie
ARG BASE=python:3.13.15-slim-trixie@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b

FROM ${BASE} AS build
WORKDIR /src
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ONLY_BINARY=:all:
RUN python3 -m venv /build && python3 -m venv --without-pip /opt/proxmox-operator
COPY requirements/build.txt requirements/runtime.txt requirements/
RUN /build/bin/pip install --require-hashes -r requirements/build.txt \
    && /build/bin/pip --python /opt/proxmox-operator/bin/python install --no-compile \
        --require-hashes -r requirements/runtime.txt
COPY pyproject.toml README.md LICENSE ./
COPY operator operator
COPY hack/image/shrink.py hack/image/shrink.py
# No build isolation: hatchling is in the lock file, so nothing unpinned runs.
RUN /build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheel . \
    && /build/bin/pip --python /opt/proxmox-operator/bin/python install --no-compile --no-deps /wheel/*.whl \
    && /opt/proxmox-operator/bin/python hack/image/shrink.py
# kopf asks for the name of its user, so the user needs an entry.
RUN echo 'operator:x:65532:65532::/nonexistent:/usr/sbin/nologin' >>/etc/passwd \
    && echo 'operator:x:65532:' >>/etc/group

FROM ${BASE}
ARG VERSION=unknown
ARG REVISION=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="proxmox-operator" \
      org.opencontainers.image.description="A Kubernetes operator for Proxmox VE virtual machines: declared, hardened, crash-safe" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}"
# The root file system is read-only at run time, and some bases come without compiled files: they are made here.
RUN ["python3", "-c", "import compileall, re, sysconfig; compileall.compile_dir(sysconfig.get_path('stdlib'), quiet=1, rx=re.compile('/(test|tests|idlelib|ensurepip|site-packages|dist-packages)/'))"]
COPY --from=build /etc/passwd /etc/group /etc/
COPY --from=build /opt/proxmox-operator /opt/proxmox-operator
ENV PATH=/opt/proxmox-operator/bin:/usr/local/bin:/usr/bin:/bin PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["proxmox-operator"]
CMD ["run"]
