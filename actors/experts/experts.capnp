# What a Router and an ExpertGroup say to each other. Kinds 0x0200-0x020F. Rows and tables travel in the payload.
@0xb6e1d0a2f4c73915;
using Cxx = import "/capnp/c++.capnp";
using Wire = import "/runtime/wire.capnp";
$Cxx.namespace("consort::actors::wire");

# payload: rows F32 [rowCount, hidden]; parts U32 [partCount, 5] = kind, index, firstColumn, columnCount, rows;
#          rowIndices U32 [outputCount], a part's after the other's, ascending within a part.
struct ComputeParts $Wire.kind(0x0200) {
  decoderNode @0 :UInt32;
  decoderIncarnation @1 :UInt32;
  step @2 :UInt64;
  layer @3 :UInt32;
  microBatch @4 :UInt32;
  planDigest @5 :UInt64;
  hidden @6 :UInt32;
  rowCount @7 :UInt32;
  partCount @8 :UInt32;
  outputCount @9 :UInt32;
}

# payload: outputs F32 [outputCount, hidden], in the order of the request's rowIndices, not weighted.
struct PartOutputs $Wire.kind(0x0201) {
  hidden @0 :UInt32;
  outputCount @1 :UInt32;
  computeNs @2 :UInt64;
}
