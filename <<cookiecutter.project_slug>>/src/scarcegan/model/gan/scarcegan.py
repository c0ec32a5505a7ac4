"""ScarceGAN: the algorithm, and the compiled program that repeats it. Losses: losses.py. Networks: networks.py.

An iteration is one step of the discriminator (labelled rows with leeway, unlabelled rows, generated rows) and one step
of the generator, during which the trunk stays as it is. One call of the compiled program runs many iterations: it draws
the rows itself, and it trains all networks (one per seed and fold) side by side.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from scarcegan.model import evenness
from scarcegan.model.gan import losses, networks
from scarcegan.model.gan.settings import GanSettings

# The figures of an iteration, in the order of train_step. SageMaker finds these names in the log.
REPORTED = (
    "Discriminator_Supervised_Loss",
    "Discriminator_UnSupervised_Loss",
    "Generator_Loss",
    "Accuracy_Supervised",
)


@dataclass(frozen=True)
class Pool:
    """Scaled rows from which batches are drawn, and which of the labelled ones each network trains on.

    - labelled float32 [n, width], unlabelled float32 [u, width]: the rows.
    - order int32 [networks, m]: for each network, positions in `labelled` of the rows it trains on, class by class. A
      position may be repeated, and that row is then drawn more often.
    - first, count int32 [networks, K]: where the entries of each class begin in `order`, and how many there are.
      Entries of `order` outside these ranges are not used.
    """

    labelled: NDArray
    unlabelled: NDArray
    order: NDArray
    first: NDArray
    count: NDArray


def make_pool(
    labelled: NDArray, label: NDArray, unlabelled: NDArray, seen: NDArray, classes: int, even: float = 0.0
) -> Pool:
    """The Pool of scaled rows labelled [n, width], whose classes are label int [n], and unlabelled [u, width].

    - seen bool [networks, n]: which labelled rows each network trains on.
    - classes: K; the rare class is K - 1.
    - even: from 0 to 1, how much more often rare rows with few similar rows are repeated in `order` than those with
      many (the power in evenness.weigh_rare_rows); 0: each row is in `order` once. Rows of other classes
      are in it once in any case.
    Raises ValueError if a network trains on no row of some class.
    """
    count = np.stack([(seen & (label == k)).sum(axis=1) for k in range(classes)], axis=1)
    if (count == 0).any():
        raise ValueError("a network sees no row of some class")
    sort_key = np.where(seen, label, classes)
    order = np.argsort(sort_key, axis=1, kind="stable")
    first = np.cumsum(count, axis=1) - count
    if even:
        weight = evenness.weigh_rare_rows(labelled, label == classes - 1, even)
        ends = zip(order, first[:, -1], count[:, -1], strict=True)
        rare = [own[begin : begin + many] for own, begin, many in ends]
        drawn = [evenness.resample(own, weight[own]) for own in rare]
        count[:, -1] = [len(own) for own in drawn]
        wide = np.zeros((len(order), (first + count).max()), int)
        for place, own, begin, rows in zip(wide, order, first[:, -1], drawn, strict=True):
            place[:begin], place[begin : begin + len(rows)] = own[:begin], rows
        order = wide
    return Pool(labelled, unlabelled, order.astype(np.int32), first.astype(np.int32), count.astype(np.int32))


class ScarceGAN(keras.Model):
    """Pairs of generator and discriminator, one pair per seed, and their optimisers. "Network" means such a pair.

    - features: width of the scaled rows. classes: K.
    - seeds: one per pair, for its first weights and for the rows that it draws.
    - settings: hyperparameters.
    - iterations: after how many the learning rate is `settings.decay` times its first value.
    - edges [features, bins + 1]: bins of the piecewise-linear encoding; None: no network reads the encoding.

    Called on rows [networks or 1, n, width], it returns the discriminator's class logits and source logits.
    """

    def __init__(
        self,
        features: int,
        classes: int,
        seeds: Sequence[int],
        settings: GanSettings,
        iterations: int = 1000,
        edges: NDArray | None = None,
    ) -> None:
        super().__init__(name="scarcegan")
        self.features, self.seeds, self.settings = features, tuple(seeds), settings
        self.discriminator = networks.Discriminator(settings.trunk, classes, seeds, settings.expert, edges)
        self.generator = networks.generator(settings.generator, features, seeds)
        self.batch_classes = np.arange(settings.batch_size) % classes  # class of each row in a labelled batch
        self.targets = tf.gather(losses.class_targets(classes, settings.alpha), self.batch_classes)
        class_weights = settings.class_weights or (1.0,) * classes
        self.batch_weights = np.take(class_weights, self.batch_classes).astype(np.float32)
        self._make_variables_and_optimisers(iterations)

    def call(self, rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The discriminator's class logits and source logits of rows [networks or 1, n, width]."""
        return self.discriminator(rows)

    def train_step(
        self, labelled: tf.Tensor, unlabelled: tf.Tensor, latent: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        """Run one iteration, which changes the weights; return the supervised loss, the unsupervised loss, the
        generator's loss and the accuracy (see discriminator_losses), in the order of REPORTED, each [networks].

        - labelled, unlabelled [networks, batch, width]: scaled rows; row i of labelled is of class `batch_classes[i]`.
        - latent [networks, batch, latent]: random vectors for the generator.
        """
        generated = self.generator(latent)
        with tf.GradientTape() as tape:
            supervised, unsupervised, accuracy = self.discriminator_losses(labelled, unlabelled, generated)
            discriminator_sum = tf.reduce_sum(supervised + unsupervised)
        gradients = tape.gradient(discriminator_sum, self.discriminator_variables)
        self.discriminator_optimiser.apply(gradients, self.discriminator_variables)

        real = labelled if self.settings.matching == "labelled" else unlabelled
        with tf.GradientTape() as tape:
            generator_loss = self.generator_loss(latent, real)
            generator_sum = tf.reduce_sum(generator_loss)
        gradients = tape.gradient(generator_sum, self.generator_variables)
        self.generator_optimiser.apply(gradients, self.generator_variables)
        return supervised, unsupervised, generator_loss, accuracy

    def discriminator_losses(
        self, labelled: tf.Tensor, unlabelled: tf.Tensor, generated: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Supervised loss, unsupervised loss, and accuracy on the labelled rows, each [networks].

        labelled, unlabelled, generated [networks, batch, width]: scaled rows, equally many of each; row i of labelled
        is of class `batch_classes[i]`. The unsupervised loss is the sum of the source head's losses (the anchor only
        with settings.anchor) times unsupervised_weight, plus losses.not_rare times unlabelled_weight. Accuracy is the
        share, 0 to 1, of labelled rows whose likeliest class (unknown left out) is theirs.
        """
        rows = tf.concat([labelled, unlabelled, generated], axis=1)
        of_labelled, of_unlabelled, of_generated = tf.split(self.discriminator.trunk_features(rows), 3, axis=1)
        logits = self.discriminator.class_logits(labelled, of_labelled)
        source_logits = self.discriminator.source_head
        unsupervised = losses.unlabelled_source(source_logits(of_unlabelled), self.settings.alpha)
        unsupervised += losses.generated_source(source_logits(of_generated))
        if self.settings.anchor:
            unsupervised += losses.known_source(source_logits(of_labelled))
        unsupervised *= self.settings.unsupervised_weight
        if self.settings.unlabelled_weight:
            unlabelled_logits = self.discriminator.class_logits(unlabelled, of_unlabelled)
            unsupervised += self.settings.unlabelled_weight * losses.not_rare(unlabelled_logits)
        predicted = tf.argmax(logits[..., :-1], axis=-1, output_type=tf.int32)
        right = predicted == tf.constant(self.batch_classes, tf.int32)
        accuracy = tf.reduce_mean(tf.cast(right, tf.float32), axis=-1)
        return losses.supervised(logits, self.targets, self.batch_weights), unsupervised, accuracy

    def generator_loss(self, latent: tf.Tensor, real: tf.Tensor) -> tf.Tensor:
        """The generator's loss [networks] for the rows that it makes of latent vectors [networks, batch, latent].

        With settings.bad_generator it is feature matching plus weighted pull-away, otherwise that of an ordinary
        generator, which does not read `real`. real [networks, batch, width]: scaled rows whose mean trunk features the
        generated rows should match.
        """
        features = self.discriminator.trunk_features(self.generator(latent))
        if not self.settings.bad_generator:
            return losses.fool_the_source_head(self.discriminator.source_head(features))
        pull_away = losses.pull_away if self.settings.pull_away == "rows" else losses.pull_away_whole_matrix
        matching = losses.feature_matching(self.discriminator.trunk_features(real), features)
        return matching + self.settings.pull_away_weight * pull_away(features)

    def _make_variables_and_optimisers(self, iterations: int) -> None:
        """Create the weights and both optimisers. iterations: as for the class."""
        self.discriminator(tf.zeros([len(self.seeds), 2, self.features]))
        self.generator(tf.zeros([len(self.seeds), 2, self.settings.latent]))
        self.discriminator_variables = self.discriminator.trainable_variables
        self.generator_variables = list(self.generator.trainable_variables)
        if self.settings.generator_trains_trunk:
            self.generator_variables += self.discriminator.trunk.trainable_variables
        weight_decay = self.settings.weight_decay
        self.discriminator_optimiser = self._adam(self.discriminator_variables, iterations, weight_decay)
        self.generator_optimiser = self._adam(self.generator_variables, iterations, 0.0)

    def _adam(self, variables: list, iterations: int, weight_decay: float) -> keras.optimizers.Optimizer:
        """The AdamW optimiser of these variables; after `iterations` steps its learning rate is `settings.decay`
        times `settings.learning_rate`. weight_decay: as in AdamW; 0: none.
        """
        rate = keras.optimizers.schedules.ExponentialDecay(self.settings.learning_rate, iterations, self.settings.decay)
        adam = keras.optimizers.AdamW(rate, beta_1=0.5, weight_decay=weight_decay)
        adam.build(variables)
        return adam

    @property
    def state(self) -> list[keras.Variable]:
        """All variables that training changes, in a fixed order: weights first, then those of the optimisers."""
        moments = [*self.discriminator_optimiser.variables, *self.generator_optimiser.variables]
        return [*self.discriminator.trainable_variables, *self.generator.trainable_variables, *moments]


@dataclass
class Program:
    """A compiled training loop: each call trains `model`, whose weights change, for `iterations` iterations on batches
    from the pool, drawn with the model's seeds until draw_from names others.

    compiled: compile the loop by XLA. False is slower and gives the same weights, up to rounding.
    """

    model: ScarceGAN
    pool: Pool
    iterations: int
    compiled: bool = True

    def __post_init__(self) -> None:
        self._draw = tf.function(self._draws)
        self._loop = tf.function(self._iterate, jit_compile=self.compiled)
        self.draw_from(self.pool, self.model.seeds)

    def draw_from(self, pool: Pool, seeds: Sequence[int]) -> None:
        """Draw from this pool from now on, with one seed per network. A pool of the same shape needs no compilation."""
        self._rows = tf.constant(pool.labelled), tf.constant(pool.unlabelled)
        self._places = tuple(tf.constant(a) for a in (pool.order, pool.first, pool.count, np.array(seeds, np.int32)))

    def __call__(self, done: int) -> NDArray:
        """Train for `iterations` more; return the four figures of train_step, averaged over these iterations, float32
        [4, networks].

        done: how many iterations were done before this call. The random draws depend on it and on the seeds alone, so a
        training that goes on from a checkpoint draws what it would have drawn without the interruption.
        """
        unlabelled = tf.constant(len(self._rows[1]), tf.int32)
        draws = self._draw(self._places, unlabelled, tf.constant(done, tf.int32))
        return self._loop(*self._rows, draws).numpy()

    def _iterate(self, labelled: tf.Tensor, unlabelled: tf.Tensor, draws: tuple[tf.Tensor, ...]) -> tf.Tensor:
        """Train the model, whose weights change, for one iteration per row of `draws`. Return the means over them of
        the four figures of train_step, [4, networks].

        labelled [n, width], unlabelled [u, width]: the scaled rows of the whole pool. draws: what `_draws` returns: for
        each iteration the positions of its rows, so that the classes take turns, and its latent vectors.
        """
        labelled_places, unlabelled_places, latent = draws
        totals = tf.zeros([len(REPORTED), len(self.model.seeds)])
        for i in tf.range(self.iterations):
            rows = tf.gather(labelled, labelled_places[i]), tf.gather(unlabelled, unlabelled_places[i])
            totals += tf.stack(self.model.train_step(*rows, latent[i]))
        return totals / self.iterations

    def _draws(
        self, places: tuple[tf.Tensor, ...], unlabelled: tf.Tensor, done: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """The batches of all iterations of a call: positions of labelled rows and of unlabelled rows, each int32
        [iterations, networks, batch], and latent vectors float32 [iterations, networks, batch, latent].

        places: order, first and count of the Pool, and the networks' seeds. unlabelled: how many unlabelled rows there
        are. done: iterations before the call. Each network has a random stream of its own, so its draws do not depend
        on the other networks. Within a batch of labelled rows the classes take turns, as in `batch_classes`.
        """
        order, first, count, seeds = places
        classes = self.model.batch_classes
        size = [self.iterations, len(classes)]
        labelled_places, unlabelled_places, latents = [], [], []
        for network in range(len(self.model.seeds)):
            stream = tf.stack([seeds[network], done * 4])
            second, third = stream + tf.constant([0, 1]), stream + tf.constant([0, 2])
            chance = tf.random.stateless_uniform(size, stream)
            of_class = tf.gather(count[network], classes)
            place = tf.minimum(tf.cast(chance * tf.cast(of_class, tf.float32), tf.int32), of_class - 1)
            labelled_places.append(tf.gather(order[network], tf.gather(first[network], classes) + place))
            unlabelled_places.append(tf.random.stateless_uniform(size, second, 0, unlabelled, tf.int32))
            latents.append(tf.random.stateless_normal([*size, self.model.settings.latent], third))
        return tf.stack(labelled_places, 1), tf.stack(unlabelled_places, 1), tf.stack(latents, 1)


def network_seeds(seed: int, seeds: int, folds: int) -> list[int]:
    """A seed, at least 0, for each of seeds x folds networks: first one network per fold, then a second one per fold,
    and so on.

    seed: of the whole training. seeds: networks per fold; a higher number appends seeds and changes none. folds: how
    many there are. Even and odd seeds alternate within a fold, because networks with an even seed read the
    piecewise-linear encoding, and a fold should have both kinds.
    """
    places = [(s, f) for s in range(seeds) for f in range(folds)]
    states = [np.random.SeedSequence([seed, s, f]).generate_state(1)[0] for s, f in places]
    return [int(state >> 2) * 2 + (s + f) % 2 for state, (s, f) in zip(states, places, strict=True)]
