"""The sentences of the page on a treebank that do not depend on its numbers."""

MEASURED = (
    "UUAS is the share of the relations of the treebank that a spanning tree of the graph joins, in whichever "
    "direction, over all sentences together; punctuation is left out. Of each family one variant (layer, head, "
    "normalization) was chosen on other sentences than those it is reported on. A dot is the score, its bar the "
    "{level} interval from resampled sentences."
)
GROUPS = (
    "Families are grouped by what they draw on. Those trained on trees have weights, or sets of heads, fitted to "
    "the trees of other sentences; of all others one variant was chosen, and no more. Baselines know word order, "
    "chance, the lengths of relations, or a model that was never trained."
)
TABLE = (
    "Long are the relations of words more than three apart, where joining neighbors finds nothing. Differences "
    "are to {reference}, on the same sentences. The p-values are of an exact sign-flip test of the sentences, "
    "corrected for the number of families (Holm). DSpr is the rank correlation of distances in the tree with "
    "closeness, punctuation counted. Seconds are of each family beside what all share; what several families measure "
    "is counted once, for the first of them that measured it."
)
DISTANCE = (
    "Near relations are many and easy: adjacent words find all of distance 1. What a graph knows beyond word order "
    "shows to the right. Bars are {level} intervals."
)
RELATION = (
    "The relations are sorted by how much the influence family is above the other, the largest difference on top; "
    "the number beside a name says how many there are. Only those are drawn that occur at least "
    "{relations} times and in {fewest} sentences. A bar is "
    "the {level} interval of one share alone, so that two bars may overlap although the difference is sure; the file "
    "by_relation.csv has the difference of each relation with its interval and corrected p-value."
)
OFFSET = (
    "The upright line is a reference that is told more than any graph: the relation, which word depends on the other, "
    "and the offset at which the head mostly stood in the sentences that choose."
)
LAYER = (
    "Every layer on all sentences, without any choice and without intervals: a look at where the trees are, not a "
    "result. The highest point of a line is the luckiest one; the results above do not use it. Where layers "
    "come in several normalizations, the line is of one that was chosen. An average of heads stands at the layer "
    "after its block. Of each kind the three families that were best where variants were chosen are drawn."
)
EXAMPLES = (
    "The sentences are not typical ones: of those with {fewest} to {most} words they are the one where the influence "
    "family is furthest ahead in relations found, one in the middle of all, and the one where it is furthest behind. "
    "Left in each picture is the tree that people drew, right that of the graph; an edge of both is orange. Each "
    "graph is of the variant that was chosen for this sentence on others. Punctuation is left out."
)
CHOSEN = {
    "cross": "The treebank was cut into halves. Each half chose the variant of every family that is reported on the "
             "other half, and both halves are counted together.",
    "half": "The treebank was cut into halves. The first chose the variant of every family, and only the second is "
            "reported on.",
    "other sentences": "The variant of every family was chosen on another file, and all sentences of this one are "
                       "reported on.",
}
LUCK = (
    "With the cross split the two halves that chose are, taken together, the sentences that are reported on: which "
    "family is called the best owes a little to luck, for which the corrected p-values account and the intervals do "
    "not."
)
CAUTIONS = (
    "The influence family set beside the reference is the one with the highest score where variants were chosen.",
    (
        "The intervals hold the choice of variants fixed. How firm it is says the share of resamples in which the same "
        "variant is chosen again."
    ),
    (
        "Sentences of one document resemble each other, which the intervals do not know; they are somewhat too "
        "narrow for texts of few sources."
    ),
    "One treebank is one way to draw trees. Another scheme of annotation would give other numbers.",
)
SKIPPED = "These sentences are in no number. skipped.csv names them all."
LEFT_OUT = "The model cannot have these families."
PROVENANCE = "The files hold every number of this page."
