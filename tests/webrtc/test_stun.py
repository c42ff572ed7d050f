"""STUN against the vectors of RFC 5769, and against what does not fit."""

import struct

import pytest

from recorder.webrtc import stun

PASSWORD = b"VOkJxbRl1RmTxUk/WvJxBt"
TRANSACTION = bytes.fromhex("b7e7a701bc34d686fa87dfae")
REQUEST = bytes.fromhex(
    "000100582112a442b7e7a701bc34d686fa87dfae802200105354554e207465737420636c69656e74002400046e0001ff80290008932ff9b151263b36"
    "000600096576746a3a68367659202020000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a280280004e57a3bcf")
IPV4 = bytes.fromhex(
    "0101003c2112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000080001a147e112a643000800142b91f599fd9e90c3"
    "8c7489f92af9ba53f06be7d780280004c07d4c96")
IPV6 = bytes.fromhex(
    "010100482112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d9"
    "00080014a382954e4be67bf11784c97c8292c275bfe3ed4180280004c8fb0b4c")


def test_the_request_of_rfc_5769_2_1():
    message = stun.parse(REQUEST)
    assert message is not None
    assert (message.kind, message.transaction) == (stun.REQUEST, TRANSACTION)
    assert message.attributes[stun.USERNAME] == b"evtj:h6vY"
    assert message.attributes[stun.PRIORITY] == bytes.fromhex("6e0001ff")
    assert stun.ICE_CONTROLLED in message.attributes
    assert message.verify(PASSWORD)
    assert not message.verify(PASSWORD + b"x")


@pytest.mark.parametrize(("vector", "host"), [(IPV4, "192.0.2.1"), (IPV6, "2001:db8:1234:5678:11:2233:4455:6677")])
def test_the_answers_of_rfc_5769_2_2_and_2_3(vector, host):
    message = stun.parse(vector)
    assert message is not None and message.kind == stun.SUCCESS
    assert message.attributes[stun.XOR_MAPPED_ADDRESS] == stun.xor_address(host, 32853, TRANSACTION)
    assert message.verify(PASSWORD)


def test_what_is_built_is_read_and_only_with_the_password():
    data = stun.build(stun.REQUEST, TRANSACTION, [(stun.USERNAME, b"abc:de"), (stun.USE_CANDIDATE, b"")], b"secret")
    message = stun.parse(data)
    assert message is not None
    assert message.attributes == {stun.USERNAME: b"abc:de", stun.USE_CANDIDATE: b""}
    assert message.verify(b"secret")
    assert not message.verify(b"Secret")
    assert not message.verify(b"")


def test_an_ipv4_address_that_is_mapped_is_told_as_itself():
    assert stun.xor_address("::ffff:192.0.2.1", 32853, TRANSACTION) == stun.xor_address("192.0.2.1", 32853, TRANSACTION)


@pytest.mark.parametrize("at", [*range(100), *range(102, len(REQUEST))])
def test_one_bit_that_is_turned_is_noticed(at):
    """By FINGERPRINT; in the padding too, which it covers. At 100 begins its own type: a message without one, and the MAC still holds."""
    broken = bytearray(REQUEST)
    broken[at] ^= 1
    message = stun.parse(bytes(broken))
    assert message is None or not message.verify(PASSWORD)


@pytest.mark.parametrize("end", range(len(REQUEST)))
def test_what_is_cut_is_no_message(end):
    assert stun.parse(REQUEST[:end]) is None


def test_what_stands_behind_the_mac_counts_for_nothing():
    inner = stun.build(stun.REQUEST, TRANSACTION, [(stun.USERNAME, b"a:b")], b"secret")[:-8]
    more = inner + stun.TYPE_LENGTH.pack(stun.USE_CANDIDATE, 0)
    message = stun.parse(more[:2] + struct.pack(">H", len(more) - 20) + more[4:])
    assert message is not None and message.verify(b"secret")
    assert stun.USE_CANDIDATE not in message.attributes


def test_without_a_mac_nothing_is_believed():
    message = stun.parse(stun.build(stun.REQUEST, TRANSACTION, [(stun.USERNAME, b"a:b")]))
    assert message is not None and not message.verify(b"")


def test_more_attributes_than_anybody_sends_are_refused():
    assert stun.parse(stun.build(stun.REQUEST, TRANSACTION, [(0x8030, b"")] * stun.ATTRIBUTES_MAX)) is None
    assert stun.parse(stun.build(stun.REQUEST, TRANSACTION, [(0x8030, bytes(60))] * 20)) is None
