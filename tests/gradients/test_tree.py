"""The tree of the sum: for any number of shards and ranks the same additions."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from src import schema
from src.gradients.build import shards_of, tree_of
from src.gradients.tree import Tree, leaves, merge

sizes = st.integers(1, 200)
many = st.integers(1, 1024)


def plainly(first: int, last: int) -> str:
    """The sum of the shards first <= shard < last in the tree, written by recursion from the top."""
    if last - first == 1:
        return str(first)
    half = 1
    while 2 * half < last - first:
        half *= 2
    return f"({plainly(first, first + half)}+{plainly(first + half, last)})"


def summed(tree: Tree) -> str:
    """What the ranks compute, written down."""
    blocks = []
    for own in tree.shards_of:
        texts = [str(shard) for shard in own]
        left = dict(enumerate(texts))
        for addition in [one for made in merge(leaves(own), tree.shards)[1] for one in made]:
            left[addition.into] = f"({left[addition.into]}+{left.pop(addition.other)})"
        blocks += [left[position] for position in sorted(left)]
    for into, other in tree.additions:
        blocks[into] = f"({blocks[into]}+{blocks[other]})"
    return blocks[0]


@given(sizes, st.data())
def test_any_number_of_ranks_makes_the_same_additions(shards: int, data: st.DataObject) -> None:
    ranks = data.draw(st.integers(1, shards))
    tree = tree_of(schema.Train(sync="bitwise", shards=shards), ranks)
    assert summed(tree) == plainly(0, shards)


@given(sizes, st.data())
def test_every_shard_belongs_to_one_rank_and_the_ranks_differ_by_one(shards: int, data: st.DataObject) -> None:
    ranks = data.draw(st.integers(1, shards))
    dealt = shards_of(schema.Train(sync="bitwise", shards=shards), ranks)
    assert [shard for own in dealt for shard in own] == list(range(shards))
    assert {len(own) for own in dealt} <= {shards // ranks, shards // ranks + 1}


@given(sizes, st.data())
def test_a_rank_holds_few_blocks(shards: int, data: st.DataObject) -> None:
    """Memory beyond a rank's own subtrees does not grow with the shards: two blocks for each level at most."""
    ranks = data.draw(st.integers(1, shards))
    tree = tree_of(schema.Train(sync="bitwise", shards=shards), ranks)
    for own, blocks in zip(tree.shards_of, tree.blocks_of, strict=True):
        assert len(blocks) <= 2 * len(own).bit_length()


def test_equal_powers_of_two_are_one_block_each() -> None:
    tree = tree_of(schema.Train(sync="bitwise", shards=1024), 1024 // 4)
    assert len(tree.blocks) == 256


def test_numbers_are_added_in_the_tree_too() -> None:
    tree = tree_of(schema.Train(sync="bitwise", shards=3), 3)
    assert tree.sum([[1e16, 1.0], [1.0, 2.0], [1.0, 3.0]]) == [(1e16 + 1) + 1, 6.0]


@given(many, st.integers(0, 1024))
@example(1024, 0)
@example(1000, 1024)
@settings(max_examples=30, deadline=None)
def test_a_thousand_ranks_hold_disjoint_blocks_of_all_shards(ranks: int, more: int) -> None:
    tree = tree_of(schema.Train(sync="bitwise", shards=ranks + more), ranks)
    covered = [shard for start, size in tree.blocks for shard in range(start, min(start + size, tree.shards))]
    assert covered == list(range(tree.shards))
    assert [position for positions in tree.blocks_of for position in positions] == list(range(len(tree.blocks)))
    assert sorted(other for _, other in tree.additions) == list(range(1, len(tree.blocks))), "each is added once"
    assert sum(map(len, tree.blocks_of)) <= 2 * ranks * (tree.shards // ranks + 1).bit_length()
