# This project on NVIDIA's last build of TensorFlow 1.15, for GPUs up to Ampere (docs/gpu.md).
# Not run here: no machine with such a card was at hand.
#
#   docker build -t empir .
#   docker run --gpus=all empir empir attack --dataset=mnist --sample --attack=fgsm \
#       --model_path=checkpoints/mnist/model3-fp
FROM nvcr.io/nvidia/tensorflow:23.03-tf1-py3
WORKDIR /empir
COPY requirements-nvidia.txt .
RUN pip install --no-cache-dir -r requirements-nvidia.txt
COPY . .
RUN pip install --no-cache-dir --no-deps -e .
