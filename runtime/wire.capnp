# The annotation that gives a message schema its kind (docs/wire.md lists the ranges).
@0xd1c5a8e0b7f34a21;
using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("consort::runtime::wire");

annotation kind @0xf2d3b7a94c6e1508 (struct) :UInt16;
