"""The AEAD functions of libsodium as kernels can call them, by their addresses in PyNaCl's library.

Called inside a kernel, ChaCha20-Poly1305 over 100 bytes takes 0.5 µs; through PyNaCl's Python binding 3 µs. All
arguments are 64-bit integers: addresses of the output, its length (0: not wanted), the secret nonce (0: unused), and
so on, in the order of libsodium's prototypes. Importing `nacl.bindings` initialises the library, which picks the
fastest code for the processor.
"""

from typing import Any

import nacl._sodium
from nacl.bindings import sodium_init

from sim.jit import external

__all__ = ["aead_decrypt", "aead_encrypt", "xaead_decrypt"]

sodium_init()  # picks the fastest code for this processor; repeating it is harmless

_SIGNATURE = "i4(i8, i8, i8, i8, i8, i8, i8, i8, i8)"


def _libsodium(name: str) -> Any:
    lib, ffi = nacl._sodium.lib, nacl._sodium.ffi
    return external(name, _SIGNATURE, address=int(ffi.cast("uintptr_t", ffi.addressof(lib, name))))


# (cipher, &cipher_length, message, message_length, associated, associated_length, secret nonce, nonce, key)
aead_encrypt = _libsodium("crypto_aead_chacha20poly1305_ietf_encrypt")
# (message, &message_length, secret nonce, cipher, cipher_length, associated, associated_length, nonce, key)
aead_decrypt = _libsodium("crypto_aead_chacha20poly1305_ietf_decrypt")
xaead_decrypt = _libsodium("crypto_aead_xchacha20poly1305_ietf_decrypt")
