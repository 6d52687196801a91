# The page, and every command:
#   docker build -t vqathinker .                                  on CPUs
#   docker build -t vqathinker:cuda --build-arg VARIANT=cuda .    on NVIDIA GPUs, with vLLM
#   docker run -p 7860:7860 -v /my/checkpoint:/checkpoint vqathinker
ARG VARIANT=cpu

FROM python:3.11-slim AS source
WORKDIR /app
# wheels of all packages exist but for some that are compiled, such as those of PyAV's on other processors
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY vqathinker ./vqathinker
COPY rewards ./rewards
COPY perturbations ./perturbations
COPY recipes ./recipes

FROM source AS cpu
# builds for CPUs are a tenth of the size of those for GPUs
RUN pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu \
    torch==2.13.0+cpu torchvision==0.28.0+cpu
RUN pip install --no-cache-dir -c constraints.txt '.[web]'

FROM source AS cuda
RUN pip install --no-cache-dir -c constraints.txt '.[web,vllm]'

FROM ${VARIANT}
RUN useradd --create-home visitor
USER visitor
WORKDIR /home/visitor
EXPOSE 7860 8000
ENTRYPOINT ["vqathinker"]
CMD ["web", "/checkpoint", "--host", "0.0.0.0"]
