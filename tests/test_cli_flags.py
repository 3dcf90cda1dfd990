"""Values of flags: lists of directories with ranges, domains, networks, and sizes."""

import pytest

from abixio.flags import parse_domains, parse_networks, parse_size, parse_volumes


@pytest.mark.parametrize(
    ("values", "paths"),
    [
        (["/a"], ("/a",)),
        (["/a,/b", "c"], ("/a", "/b", "c")),
        (["/mnt/disk{1...4}/x"], ("/mnt/disk1/x", "/mnt/disk2/x", "/mnt/disk3/x", "/mnt/disk4/x")),
        (["/d{09...11}"], ("/d09", "/d10", "/d11")),
        (["/h{1...2}/d{1...2}"], ("/h1/d1", "/h1/d2", "/h2/d1", "/h2/d2")),
        (["/d{3...3}, /e"], ("/d3", "/e")),
        (["/with blank/a"], ("/with blank/a",)),
    ],
)
def test_lists_and_ranges_become_paths_in_order(values: list[str], paths: tuple[str, ...]) -> None:
    assert parse_volumes(values) == paths


@pytest.mark.parametrize(
    "value", ["", "/a,,/b", "/a,", "/d{1..4}", "/d{a...b}", "/d{4...1}", "/d{1...4", "/d1...4}", "/d{1...{2}}"]
)
def test_a_list_that_is_not_one_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match=r"empty|range"):
        parse_volumes([value])


@pytest.mark.parametrize(
    "value", ["/d{1...17}", "/d{1...1000000000000}", "/d{1...99999}{1...99999}{1...99999}", "/d{1...10},/e{1...10}"]
)
def test_more_directories_than_a_pool_may_have_are_refused_without_making_them_all(value: str) -> None:
    with pytest.raises(ValueError, match="more than 16"):
        parse_volumes([value])


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("1048576", 1 << 20), ("512MiB", 512 << 20), ("2g", 2 << 30), ("500MB", 500_000_000), ("9k", 9216)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MiB", "1.5GiB", "-1", "1TiBs", "0x10", "1 2", "1MiB x"])
def test_a_size_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="size such as"):
        parse_size(text)


@pytest.mark.parametrize(
    ("values", "domains"),
    [
        ([], ()), (["s3.example.com"], ("s3.example.com",)), (["S3.Example.com., x", "x"], ("s3.example.com", "x")),
        (["a-1.b2"], ("a-1.b2",)),
    ],
)
def test_domains_are_lower_case_and_each_once(values: list[str], domains: tuple[str, ...]) -> None:
    assert parse_domains(values) == domains


@pytest.mark.parametrize(
    "value",
    ["", "a,", "a..b", ".a", "-a", "a-", "a_b", "a:9000", "127.0.0.1", "[::1]", "*.a", "ü.de", "a/b", "a" * 64, "a." * 99 + "a"],
)
def test_a_domain_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="domain such as"):
        parse_domains([value])


@pytest.mark.parametrize(
    ("values", "networks"),
    [([], ()), (["10.0.0.0/8, ::1", "192.168.1.1", "::1/128"], ("10.0.0.0/8", "::1/128", "192.168.1.1/32"))],
)
def test_networks_are_each_once(values: list[str], networks: tuple[str, ...]) -> None:
    assert parse_networks(values) == networks


@pytest.mark.parametrize("value", ["", "10.0.0.1/8", "10.0.0.0/33", "proxy", "10.0.0.1:80", "::1,", "[::1]"])
def test_a_network_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="network such as"):
        parse_networks([value])
