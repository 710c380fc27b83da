"""Plain classes that run as Ray actors; the folder is the package ``aiecs_ray.actors`` and has no other name."""

if __name__ != "aiecs_ray.actors":
    raise ImportError(f"write `import aiecs_ray.actors`, not `import {__name__}`: it is one package with one name")
