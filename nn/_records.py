"""Safetensors files with a JSON record beside the tensors: how plans and networks are kept."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

import safetensors.torch
import torch

from coresets._files import write_atomically
from coresets.certificate import Certificate

__all__ = ["read_certificates", "read_record", "under", "write_record", "written_certificates"]

Path = str | os.PathLike[str]

# Of all records here; whoever changes what one of them holds raises it.
_FORMAT = 1


def write_record(
    path: Path, key: str, tensors: Mapping[str, torch.Tensor], record: Mapping[str, Any]
) -> None:
    """Write tensors, and a record under ``key`` of the metadata, to one safetensors file, atomically."""
    # Clones: tensors that share their memory cannot be written.
    content = safetensors.torch.save(
        {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()},
        {key: json.dumps({"format": _FORMAT, **record})},
    )
    write_atomically(path, lambda file: file.write(content))


def read_record(path: Path, key: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors and the record under ``key`` of a safetensors file.

    Raises
    ------
    ValueError
        If the file is no safetensors file, has no such record, or one of another format.
    FileNotFoundError
        If there is no such file.
    """
    try:
        with safetensors.safe_open(os.fspath(path), framework="pt") as file:
            record = json.loads((file.metadata() or {})[key])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
    except FileNotFoundError:
        raise
    except (safetensors.SafetensorError, KeyError, json.JSONDecodeError, OSError) as error:
        raise ValueError(f"{os.fspath(path)} is not a saved {key} ({error})") from error
    if not isinstance(record, dict):
        raise ValueError(f"{os.fspath(path)} is not a saved {key}")
    if record.get("format") != _FORMAT:
        raise ValueError(f"{os.fspath(path)} has format {record.get('format')}; this version reads {_FORMAT}")
    return tensors, record


def under(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors whose names begin with a prefix, without it."""
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def written_certificates(certificates: Iterable[Certificate]) -> list[dict[str, Any]]:
    """For JSON."""
    return [certificate.to_dict() for certificate in certificates]


def read_certificates(record: Iterable[Mapping[str, Any]]) -> tuple[Certificate, ...]:
    """From what :func:`written_certificates` made."""
    return tuple(Certificate.from_dict(certificate) for certificate in record)
