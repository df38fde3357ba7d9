"""The script one writes without adabn: evaluate, update_bn, evaluate, save. Nothing clever in it.

python users_script.py ARCHITECTURE STATE.pth FOLDER OUT.pth WORKERS
"""

import sys

import torch
from torch.optim.swa_utils import update_bn

# Beside a torch without CUDA torchvision is imported with it alone.
import adabn_cli  # noqa: F401  isort: skip
from torchvision import models, transforms
from torchvision.datasets import ImageFolder


@torch.no_grad()
def accuracy(model, loader):
    """The share of pictures that the model gets right."""
    model.eval()
    right = total = 0
    for images, labels in loader:
        right += (model(images).argmax(1) == labels).sum().item()
        total += len(labels)
    return right / total


def main():
    """Prints the accuracy before and after."""
    architecture, state, folder, out, workers = sys.argv[1:]
    transform = transforms.Compose(
        [
            transforms.Resize(256),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    pictures = ImageFolder(folder, transform)
    loader = torch.utils.data.DataLoader(pictures, batch_size=32, num_workers=int(workers))
    model = models.get_model(architecture, weights=None, num_classes=len(pictures.classes))
    model.load_state_dict(torch.load(state, weights_only=True))
    before = accuracy(model, loader)
    update_bn(loader, model)
    after = accuracy(model, loader)
    torch.save(model.state_dict(), out)
    print(f"{before:.4f} {after:.4f}")


main()
