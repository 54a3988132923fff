"""The sentences of the page that do not depend on the text."""

NEEDS_TWO = "This needs at least two words, and the text has one."

LEAD = (
    "Every word is a probability distribution; how far two words are apart is the geodesic distance between their "
    "distributions. Beside it, what the model's attention says."
)

INFLUENCE_LEAD = (
    "Every word is a probability distribution. Take a word away from the text, and the distributions of the others "
    "move on the statistical manifold: words that move each other belong together. Beside it, what the model's "
    "attention says."
)

INFLUENCE = (
    "An edge of the influence graph joins two words that move each other: when one is taken away, the distribution "
    "of the other moves further on the manifold than is usual for words so far apart. It is the first graph on this "
    "page because on sentences whose syntax is known its spanning tree finds more of the relations than that of the "
    "best head of attention, above all the long ones; docs/word_graphs.md has the numbers, and says of which "
    "models."
)

INFLUENCE_TWICE = (
    "This model reads from left to right, and a word cannot be moved by a later one. So the text is given twice in "
    "a row, and words are read in the second copy, where all others have been seen."
)

INFLUENCE_LENGTH = (
    "A distance in the influence graph is log((1 + w) / w), where w is the exponential of half the evidence: by how "
    "many deviations two words move each other more than is usual so far apart, less a prior for nearer words. It "
    "orders pairs of words, and is no metric: the way over a third word may be shorter."
)

INFLUENCE_GRAPHS = (
    "The words stand in reading order and belong to both graphs. Arcs to the left join words that move each other, "
    "arcs to the right those that attention joins. A thicker arc is a stronger relation, and an edge of both graphs "
    "is orange on both sides: the more the two agree, the more the picture mirrors itself."
)

STANDING = (
    "The Fisher–Rao distances are a second view: how far apart the words' distributions are as they stand, with "
    "nothing taken away. Each word is a normal around its vector at layer {layer}, all with the covariance of word "
    "vectors in a background text. The graphs, tables and coefficients on this page are not made from them."
)

GRAPHS = (
    "The words stand in reading order and belong to both graphs. Arcs to the left join words that are close on "
    "the statistical manifold, arcs to the right those that attention joins. A thicker arc is a stronger "
    "relation, and an edge of both graphs is orange on both sides: the more the two agree, the more the picture "
    "mirrors itself."
)

MATRICES = (
    "In these pictures dark means close. Attention has a direction: the word of the row looks at the word of the "
    "column. What it gives to special tokens, such as the begin token, is left out, so rows need not sum to one."
)

HALF_PLANE = (
    "Here each word is reduced to one normal distribution, fitted to the components of its vector. Normal "
    "distributions form a hyperbolic plane, with the mean to the right and the standard deviation upward. The "
    "lines are geodesics from each word to the two nearest to it on this plane. Over a short way a geodesic is "
    "nearly straight; over a long one it bends upward, where distributions are wide and lie closer together."
)

HALF_PLANE_ONE = (
    "Here the word is reduced to one normal distribution, fitted to the components of its vector: the mean to the "
    "right, the standard deviation upward. Geodesics join neighbors, and need a second word."
)

SAME_CONSTRUCTION = "The distances on this page are measured between these very distributions."

OTHER_CONSTRUCTION = (
    "The distances on this page come from another construction ({construction}); this is the simplest one, and "
    "the one that can be drawn."
)

INFLUENCE_CONSTRUCTION = (
    "The influence graph comes from how words move each other. Here they stand still, in the simplest construction, "
    "the one that can be drawn."
)

INFLUENCE_LAYERS = (
    "At layer {layer}, that of this page, the distances are those of the influence graph: {construction}. At each "
    "other layer they are of that layer alone and the edges of its own block, and at layer 0, where no word has "
    "seen another, there are none."
)

AGREEMENT = (
    "Spearman's rank correlation between closeness and attention (both directions averaged) over all pairs of "
    "words: 1 where the two put all pairs in the same order, 0 where they have nothing in common, −1 for opposite "
    "orders. Words that stand near each other in the text are mostly close on both sides, so word order alone makes "
    "them agree. The partial coefficient compares each pair only with pairs that stand equally far apart in the text."
)

AGREEMENT_NEEDS = "Agreement is a rank correlation over pairs of words and needs three words; the text has {words}."

LENS = (
    "The logit lens reads a prediction of {what} out of every layer, with the model's own last norm and "
    "unembedding. The color is the entropy of that prediction, dark where it is certain; the text in the cell is "
    "its most probable outcome. Layer 0 is the embedding, layer ℓ is after block ℓ. Before the last layer the "
    "read-out is a projection that the model was not trained for."
)

NO_HALF_PLANE = "There is no half-plane for this text: {reason}"

NO_LENS = "There is no lens for this model. {reason}"

COUNTING = "Words are counted from 1 on this page, and from 0 in the files."

PROVENANCE = f"What it takes to make these numbers again, and the numbers themselves. {COUNTING}"


def edges(construction: str) -> str:
    """What a graph joins, in words.

    Examples
    --------
    >>> edges("nearest_neighbor_graph(k=3)")
    'each word is joined to its 3 nearest'
    >>> edges("minimum_spanning_tree")
    'the words are joined by the minimum spanning tree'
    """
    number = construction.partition("=")[2].partition(")")[0].partition(",")[0]
    if construction.startswith("nearest_neighbor_graph("):
        near = "its nearest" if number == "1" else f"its {number} nearest"
        if "mutual=True" in construction:
            return f"two words are joined if each is among the other's {number} nearest"
        return f"each word is joined to {near}"
    if construction in ("minimum_spanning_tree", "maximum_spanning_tree"):
        return f"the words are joined by the {construction.replace('_', ' ')}"
    if construction.startswith("maximum_spanning_forest("):
        return f"the words are joined by {number} maximum spanning trees, with no attention between them"
    if construction.startswith("radius_graph("):
        return f"words at most {float(number):.4g} apart are joined"
    if construction.startswith("top_edges("):
        return f"the {number} strongest pairs are joined"
    return f"edges come from {construction}"
