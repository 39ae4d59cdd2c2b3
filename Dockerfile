# The image of the operator. Build it from the root of the repository:
#   docker build -t REGISTRY/llmtrain/operator:TAG .
#
# Build arguments:
#   BASE   an image with Python 3.11 or later as python3
# Build secrets (settings, pip.conf, uv.toml): see scripts/image_environment.sh.
ARG BASE=python:3.12-slim

FROM ${BASE} AS dependencies
COPY scripts/image_environment.sh requirements/uv.txt requirements/operator.txt /opt/llmtrain/build/
RUN --mount=type=secret,id=settings,target=/run/secrets/settings \
    --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    --mount=type=secret,id=uv.toml,target=/etc/uv/uv.toml \
    /opt/llmtrain/build/image_environment.sh /opt/llmtrain/environment -r operator.txt

FROM dependencies
ARG BASE
LABEL org.opencontainers.image.base.name=${BASE}
ENV PATH=/opt/llmtrain/environment/bin:$PATH \
    PYTHONUNBUFFERED=1
COPY operator/llmtrain_operator /opt/llmtrain/code/llmtrain_operator
# The contract with the pods, and nothing else of the trainer.
COPY trainer_image/llmtrain_trainer/__init__.py /opt/llmtrain/code/llmtrain_trainer/__init__.py
COPY trainer_image/llmtrain_trainer/config /opt/llmtrain/code/llmtrain_trainer/config
RUN python -m compileall -q --invalidation-mode unchecked-hash /opt/llmtrain/code
USER 65532:65532
ENTRYPOINT ["python", "-m", "llmtrain_operator"]
