"""Random numbers on the device, one stream per member, without state.

TensorFlow's generators draw for a whole tensor, so a member's numbers would depend on how many members there are. These
are a counter put through an integer hash: number = hash(seed of the member, iteration, salt, position). Hash: the finaliser of
MurmurHash3 (Austin Appleby, public domain), applied twice.
"""

import numpy as np
import tensorflow as tf


def bits(seeds: tf.Tensor, iteration: tf.Tensor, salt: int, count: int) -> tf.Tensor:
    """uint32 [members, count]: the numbers of each member at one iteration. seeds [members]; salts tell uses apart."""
    position = tf.range(count, dtype=tf.int32)[None, :]
    stream = scramble(tf.cast(seeds, tf.uint32) * np.uint32(0x9E3779B1) + np.uint32(salt * 0x85EBCA6B % 2**32))
    moment = scramble(stream + tf.cast(iteration, tf.uint32) * np.uint32(0xC2B2AE35))
    return scramble(moment[:, None] + tf.cast(position, tf.uint32) * np.uint32(0x27D4EB2F))


def scramble(number: tf.Tensor) -> tf.Tensor:
    """Mix the bits of uint32 numbers."""
    for multiplier in (0x85EBCA6B, 0xC2B2AE35):
        number = tf.bitwise.bitwise_xor(number, tf.bitwise.right_shift(number, np.uint32(16))) * np.uint32(multiplier)
    return tf.bitwise.bitwise_xor(number, tf.bitwise.right_shift(number, np.uint32(15)))


def uniform(seeds: tf.Tensor, iteration: tf.Tensor, salt: int, count: int) -> tf.Tensor:
    """float32 [members, count] in (0, 1)."""
    whole = tf.cast(tf.bitwise.right_shift(bits(seeds, iteration, salt, count), np.uint32(9)), tf.int32)
    return (tf.cast(whole, tf.float32) + 0.5) / float(2**23)


def normal(seeds: tf.Tensor, iteration: tf.Tensor, salt: int, count: int) -> tf.Tensor:
    """float32 [members, count], standard normal (Box and Muller)."""
    radius = tf.sqrt(-2.0 * tf.math.log(uniform(seeds, iteration, salt, count)))
    return radius * tf.cos(2.0 * np.pi * uniform(seeds, iteration, salt + 1, count))
