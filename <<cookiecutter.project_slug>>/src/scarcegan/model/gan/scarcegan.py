"""ScarceGAN: the algorithm, and the compiled program that repeats it. Losses: losses.py. Networks: networks.py.

An iteration is one step of the discriminator (labelled rows with leeway, unlabelled rows, generated rows) and one step
of the generator against the trunk, which stays as it is meanwhile. Many iterations are one call of a compiled program:
rows are drawn on the device, all members (seeds x folds) train side by side, and Python only looks in between.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from scarcegan.model import evenness
from scarcegan.model.gan import losses, networks

REPORTED = (
    "Discriminator_Supervised_Loss",
    "Discriminator_UnSupervised_Loss",
    "Generator_Loss",
    "Accuracy_Supervised",
)


@dataclass(frozen=True)
class Settings:
    """Hyperparameters. The defaults are the right ones; the authors' code and the paper's variants are others.

    alpha: leeway; 1 is none. bad_generator: fills regions of low density; False is an ordinary one (vanilla SSGAN, with
    alpha 1). anchor: labelled rows are healthy in the source head. expert: linear expert beside the trunk.
    generator_trains_trunk, pull_away "matrix", matching "labelled": what the authors' code does.
    bins: piecewise-linear codes of each feature, which every other member sees; 0 is none. unlabelled_weight: how much
    it counts, in the class head, that unlabelled rows are hardly ever rare; 0 is the paper's. unsupervised_weight: of
    the source head's losses beside the supervised one; 1 is the paper's.
    even: 1 draws kinds of the rare class alike, however many labelled rows each has; 0 draws rows alike.
    caution: bounds the log odds of a member, so that none outvotes the rest; 0 is no bound. boosting: boosted trees per
    fold beside the networks, 0 is none; boosting_weight: of their log odds beside the networks' own; neighbours: how
    many unlabelled rows the trees are told the distance to, 0 is none.
    decay: what is left of the learning rate at the end. class_weights: one per class; empty means all 1.
    """

    trunk: tuple[int, ...] = (64, 32)
    bins: int = 8
    generator: tuple[int, ...] = (30,)
    latent: int = 10
    batch_size: int = 64
    learning_rate: float = 1e-3
    decay: float = 0.05
    weight_decay: float = 0.0
    alpha: float = 0.7
    unlabelled_weight: float = 1.0
    unsupervised_weight: float = 1.0
    bad_generator: bool = True
    pull_away: Literal["rows", "matrix"] = "rows"
    pull_away_weight: float = 1.0
    matching: Literal["unlabelled", "labelled"] = "unlabelled"
    generator_trains_trunk: bool = False
    anchor: bool = True
    expert: bool = True
    even: float = 1.0
    caution: float = 0.01
    boosting: int = 100
    boosting_weight: float = 1.0
    neighbours: int = 2000
    class_weights: tuple[float, ...] = ()


@dataclass(frozen=True)
class Pool:
    """Scaled rows to draw from, and which of them each member may see.

    labelled [n, features]; unlabelled [u, features]; order [members, m] positions in `labelled`, class by class;
    first, count [members, K]: where each class begins in `order` and how many places it has there.
    """

    labelled: NDArray
    unlabelled: NDArray
    order: NDArray
    first: NDArray
    count: NDArray


def pool(
    labelled: NDArray, label: NDArray, unlabelled: NDArray, seen: NDArray, classes: int, even: float = 0.0
) -> Pool:
    """A Pool from labels [n] and seen [members, n] bool. Every member must see a row of every class (ValueError).

    even: see Settings; rows of the rare class (the last) have as many places in `order` as evenness.weights says.
    """
    count = np.stack([(seen & (label == k)).sum(axis=1) for k in range(classes)], axis=1)
    if (count == 0).any():
        raise ValueError("a member sees no row of some class")
    sort_key = np.where(seen, label, classes)
    order = np.argsort(sort_key, axis=1, kind="stable")
    first = np.cumsum(count, axis=1) - count
    if even:
        weight = evenness.among_all(labelled, label == classes - 1, even)
        ends = zip(order, first[:, -1], count[:, -1], strict=True)
        rare = [own[begin : begin + many] for own, begin, many in ends]
        drawn = [evenness.resampled(own, weight[own]) for own in rare]
        count[:, -1] = [len(own) for own in drawn]
        wide = np.zeros((len(order), (first + count).max()), int)
        for place, own, begin, rows in zip(wide, order, first[:, -1], drawn, strict=True):
            place[:begin], place[begin : begin + len(rows)] = own[:begin], rows
        order = wide
    return Pool(labelled, unlabelled, order.astype(np.int32), first.astype(np.int32), count.astype(np.int32))


class ScarceGAN(keras.Model):
    """Members (one per seed) of generator and discriminator over rows of `features` scaled numbers and K classes."""

    def __init__(
        self,
        features: int,
        classes: int,
        seeds: Sequence[int],
        settings: Settings,
        iterations: int = 1000,
        edges: NDArray | None = None,
    ) -> None:
        super().__init__(name="scarcegan")
        self.features, self.seeds, self.settings = features, tuple(seeds), settings
        self.discriminator = networks.Discriminator(settings.trunk, classes, seeds, settings.expert, edges)
        self.generator = networks.generator(settings.generator, features, seeds)
        self.slots = np.arange(settings.batch_size) % classes  # class of each place in a labelled batch
        self.targets = tf.gather(losses.class_targets(classes, settings.alpha), self.slots)
        self.weights_of_rows = np.take(settings.class_weights or (1.0,) * classes, self.slots).astype(np.float32)
        self._make_variables_and_optimisers(iterations)

    def call(self, rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return self.discriminator(rows)

    def train_step(
        self, labelled: tf.Tensor, unlabelled: tf.Tensor, latent: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        """One iteration on batches [members, batch, width]; the four reported figures, each [members]."""
        generated = self.generator(latent)
        with tf.GradientTape() as tape:
            supervised, unsupervised, accuracy = self.judge(labelled, unlabelled, generated)
            discriminator_loss = tf.reduce_sum(supervised + unsupervised)
        self.discriminator_optimiser.apply(tape.gradient(discriminator_loss, self.judges), self.judges)

        real = labelled if self.settings.matching == "labelled" else unlabelled
        with tf.GradientTape() as tape:
            generator = self.provoke(latent, real)
            generator_loss = tf.reduce_sum(generator)
        self.generator_optimiser.apply(tape.gradient(generator_loss, self.provokers), self.provokers)
        return supervised, unsupervised, generator, accuracy

    def judge(self, labelled: tf.Tensor, unlabelled: tf.Tensor, generated: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Supervised loss, unsupervised loss and accuracy of the discriminator, each [members]."""
        traits = self.discriminator.traits(tf.concat([labelled, unlabelled, generated], axis=1))
        known, open_, made = tf.split(traits, 3, axis=1)
        logits = self.discriminator.classes(labelled, known)
        sources = self.discriminator.source_head
        unsupervised = losses.unlabelled_source(sources(open_), self.settings.alpha)
        unsupervised += losses.generated_source(sources(made))
        if self.settings.anchor:
            unsupervised += losses.known_source(sources(known))
        unsupervised *= self.settings.unsupervised_weight
        if self.settings.unlabelled_weight:
            open_logits = self.discriminator.classes(unlabelled, open_)
            unsupervised += self.settings.unlabelled_weight * losses.not_rare(open_logits)
        right = tf.argmax(logits[..., :-1], axis=-1, output_type=tf.int32) == tf.constant(self.slots, tf.int32)
        accuracy = tf.reduce_mean(tf.cast(right, tf.float32), axis=-1)
        return losses.supervised(logits, self.targets, self.weights_of_rows), unsupervised, accuracy

    def provoke(self, latent: tf.Tensor, real: tf.Tensor) -> tf.Tensor:
        """The generator's loss [members]."""
        traits = self.discriminator.traits(self.generator(latent))
        if not self.settings.bad_generator:
            return losses.fool_the_source_head(self.discriminator.source_head(traits))
        away = losses.pull_away if self.settings.pull_away == "rows" else losses.pull_away_whole_matrix
        matching = losses.feature_matching(self.discriminator.traits(real), traits)
        return matching + self.settings.pull_away_weight * away(traits)

    def _make_variables_and_optimisers(self, iterations: int) -> None:
        nothing = tf.zeros([len(self.seeds), 2, self.features])
        self.discriminator(nothing)
        self.generator(tf.zeros([len(self.seeds), 2, self.settings.latent]))
        self.judges = self.discriminator.trainable_variables
        self.provokers = list(self.generator.trainable_variables)
        if self.settings.generator_trains_trunk:
            self.provokers += self.discriminator.trunk.trainable_variables
        self.discriminator_optimiser = self._adam(self.judges, iterations, self.settings.weight_decay)
        self.generator_optimiser = self._adam(self.provokers, iterations, 0.0)

    def _adam(self, variables: list, iterations: int, weight_decay: float) -> keras.optimizers.Optimizer:
        rate = keras.optimizers.schedules.ExponentialDecay(self.settings.learning_rate, iterations, self.settings.decay)
        adam = keras.optimizers.AdamW(rate, beta_1=0.5, weight_decay=weight_decay)
        adam.build(variables)
        return adam

    @property
    def state(self) -> list[keras.Variable]:
        """Everything that training changes, in a fixed order: what a checkpoint holds."""
        moments = [*self.discriminator_optimiser.variables, *self.generator_optimiser.variables]
        return [*self.discriminator.trainable_variables, *self.generator.trainable_variables, *moments]


@dataclass
class Program:
    """`iterations` iterations of a model on a pool as one compiled call; `program(done)` runs the next ones.

    done: iterations before this call. It seeds the draws, so a training taken up again goes on as if never stopped.
    compiled: with XLA. Another pool of the same shape may be put in (`pool`), which compiles nothing anew.
    """

    model: ScarceGAN
    pool: Pool
    iterations: int
    compiled: bool = True

    def __post_init__(self) -> None:
        self._draw = tf.function(self._draws)
        self._loop = tf.function(self._iterate, jit_compile=self.compiled)
        self.feed(self.pool, self.model.seeds)

    def feed(self, pool: Pool, seeds: Sequence[int]) -> None:
        """Draw from this pool, each member by its seed, from now on."""
        self._rows = tf.constant(pool.labelled), tf.constant(pool.unlabelled)
        self._places = tuple(tf.constant(a) for a in (pool.order, pool.first, pool.count, np.array(seeds, np.int32)))

    def __call__(self, done: int) -> NDArray:
        """Run; the mean of the four reported figures, [4, members]."""
        unlabelled = tf.constant(len(self._rows[1]), tf.int32)
        draws = self._draw(*self._places, unlabelled, tf.constant(done, tf.int32))
        return self._loop(*self._rows, *draws).numpy()

    def _iterate(
        self, labelled: tf.Tensor, unlabelled: tf.Tensor, rows: tf.Tensor, others: tf.Tensor, latent: tf.Tensor
    ) -> tf.Tensor:
        totals = tf.zeros([len(REPORTED), len(self.model.seeds)])
        for i in tf.range(self.iterations):
            batch = tf.gather(labelled, rows[i]), tf.gather(unlabelled, others[i]), latent[i]
            totals += tf.stack(self.model.train_step(*batch))
        return totals / self.iterations

    def _draws(
        self,
        order: tf.Tensor,
        first: tf.Tensor,
        count: tf.Tensor,
        seeds: tf.Tensor,
        unlabelled: tf.Tensor,
        done: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Positions of labelled and unlabelled rows and latent vectors, [iterations, members, batch(, latent)].

        Each member has its own stream, so what it draws does not depend on the others. Classes take equal turns.
        """
        slots = self.model.slots
        size = [self.iterations, len(slots)]
        rows, others, latents = [], [], []
        for member in range(len(self.model.seeds)):
            stream = tf.stack([seeds[member], done * 4])
            chance = tf.random.stateless_uniform(size, stream)
            of_class = tf.gather(count[member], slots)
            place = tf.minimum(tf.cast(chance * tf.cast(of_class, tf.float32), tf.int32), of_class - 1)
            rows.append(tf.gather(order[member], tf.gather(first[member], slots) + place))
            others.append(tf.random.stateless_uniform(size, stream + tf.constant([0, 1]), 0, unlabelled, tf.int32))
            latents.append(
                tf.random.stateless_normal([*size, self.model.settings.latent], stream + tf.constant([0, 2]))
            )
        return tf.stack(rows, 1), tf.stack(others, 1), tf.stack(latents, 1)


def member_seeds(seed: int, seeds: int, folds: int) -> list[int]:
    """A seed per member, fold by fold within a seed, even and odd in turn; a longer list begins like a shorter one.

    Even members read codes (networks.Discriminator); with several members per fold, each fold has both kinds.
    """
    places = [(s, f) for s in range(seeds) for f in range(folds)]
    each = [np.random.SeedSequence([seed, s, f]).generate_state(1)[0] for s, f in places]
    return [int(state >> 2) * 2 + (s + f) % 2 for state, (s, f) in zip(each, places, strict=True)]
