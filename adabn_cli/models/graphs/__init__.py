"""Networks that come as graphs of torch: TorchScript and exported programs."""
