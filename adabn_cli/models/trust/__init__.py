"""What a model file may import and run: decided before anything is loaded.

A model file may come from a stranger. What it could try, and what stands against it:

- Its pickle names a function that runs a command: only globals on a list may be named (`policy`).
- It calls a harmless one with harmful arguments: every call is read before it is made (`audit`).
- It replaces methods or hooks of a module that is rebuilt: these are compared after loading.
- It shows one pickle to the audit and another to torch: both readers of the archive must agree.
- It unpacks to more than there is room for: sizes that are declared are held to the file's.
- It brings code along: a folder's is never run, a TorchScript's may only compute.
- Its metadata names a package: only torchvision, timm and the libraries of folders are imported.

--trust-pickle lifts the first three and what a TorchScript may do, if the user trusts its origin.
"""
