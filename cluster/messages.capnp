# How the cluster's messages travel (cluster/messages.hpp says what they mean), and the records of the decision log.
@0xae22c34cdf6d607f;
using Cxx = import "/capnp/c++.capnp";
using Wire = import "/runtime/wire.capnp";
$Cxx.namespace("consort::cluster::schema");

# --- values ---
struct Profile {
  expertBytesPerSecond @0 :Float64;
  memoryBytes @1 :UInt64;
  trunkBytes @2 :UInt64;
  linkDelaySeconds @3 :Float64;
  linkBytesPerSecond @4 :Float64;
}
struct Held {
  partCount @0 :UInt32;
  partBytes @1 :UInt64;
  checkpointBytesRead @2 :UInt64;
}
struct Member {
  node @0 :UInt32;
  incarnation @1 :UInt32;
  name @2 :Text;
  coordinator @3 :Bool;
  batcher @4 :Bool;
  trunk @5 :Bool;
  experts @6 :Bool;
  state @7 :UInt8;
  dataAddress @8 :Data;
  controlAddress @9 :Data;
  dataToken @10 :Data;
  profile @11 :Profile;
  held @12 :Held;
  gateway @13 :Bool;
}
struct Columns {
  first @0 :UInt32;
  count @1 :UInt32;
}
struct NumericPlan {
  cut @0 :List(Columns);
  combine @1 :Text;
  wire @2 :Text;
  numericClass @3 :Text;
}
# Parts in ascending order. The four numbers of a part, its kind, and how many of `holders` are its own.
struct Placement {
  layers @0 :List(UInt32);
  kinds @1 :List(UInt8);
  indices @2 :List(UInt32);
  firstColumns @3 :List(UInt32);
  columnCounts @4 :List(UInt32);
  holderCounts @5 :List(UInt8);
  holders @6 :List(UInt32);
}
struct View {
  epoch @0 :UInt32;
  version @1 :UInt64;
  members @2 :List(Member);
  numericPlan @3 :NumericPlan;
  placement @4 :Placement;
}

# --- worker and Coordinator ---
struct Join $Wire.kind(0x0100) {
  node @0 :UInt32;
  incarnation @1 :UInt32;
  boot @2 :UInt64;
  manifest @3 :Text;
  build @4 :Text;
  protocol @5 :UInt32;
  dataAddress @6 :Data;
  controlAddress @7 :Data;
  dataToken @8 :Data;
  profile @9 :Profile;
  loaded @10 :UInt32;
  held @11 :Held;
}
struct Joined $Wire.kind(0x0101) {
  incarnation @0 :UInt32;
}
struct ReportProfile $Wire.kind(0x0102) {
  node @0 :UInt32;
  profile @1 :Profile;
  checkpointBytesRead @2 :UInt64;
}
struct ProfileTaken $Wire.kind(0x0103) {}
struct PartsReady $Wire.kind(0x0104) {
  node @0 :UInt32;
  epoch @1 :UInt32;
  held @2 :Held;
}
struct PartsAccepted $Wire.kind(0x0105) {}
# Payload: one segment of View.
struct ViewUpdate $Wire.kind(0x0106) {}
struct Heartbeat $Wire.kind(0x0107) {
  sequence @0 :UInt64;
  viewVersion @1 :UInt64;
}
struct RegisterAgain $Wire.kind(0x010A) {}

# --- worker and worker ---
# Payload: any bytes.
struct LinkEcho $Wire.kind(0x0108) {}
struct LinkEchoed $Wire.kind(0x0109) {}

# --- agents ---
struct AgentHello $Wire.kind(0x0110) {
  host @0 :Text;
  controlAddress @1 :Data;
  viewVersion @2 :UInt64;
  children @3 :List(Child);
  struct Child {
    node @0 :UInt32;
    ended @1 :UInt32;
    running @2 :Bool;
    givenUp @3 :Bool;
    trouble @4 :Text;
  }
}
struct AgentWelcome $Wire.kind(0x0111) {}
struct WorkerJoined $Wire.kind(0x0112) {
  node @0 :UInt32;
  incarnation @1 :UInt32;
  controlAddress @2 :Data;
}
struct TakeProbeTurn $Wire.kind(0x0113) {
  node @0 :UInt32;
}
struct ProbeTurn $Wire.kind(0x0114) {}
struct ReleaseProbeTurn $Wire.kind(0x0115) {
  node @0 :UInt32;
}
struct ChildExited $Wire.kind(0x0116) {
  node @0 :UInt32;
  incarnation @1 :UInt32;
  description @2 :Text;
  givenUp @3 :Bool;
}
struct NodeLost $Wire.kind(0x0117) {
  node @0 :UInt32;
  incarnation @1 :UInt32;
  restart @2 :Bool;
  why @3 :Text;
}
struct NodeReplaced $Wire.kind(0x0118) {}

# --- operator ---
struct Shutdown $Wire.kind(0x0119) {}
struct ShuttingDown $Wire.kind(0x011A) {}
struct LeaveCluster $Wire.kind(0x011B) {
  node @0 :UInt32;
}
struct LeftCluster $Wire.kind(0x011C) {}
struct ClusterStatus $Wire.kind(0x0120) {}
# Payload: this segment.
struct ClusterStatusReport $Wire.kind(0x0121) {
  view @0 :View;
  trouble @1 :Text;
  prediction @2 :Text;
  answeredBy @3 :UInt32;
  suspected @4 :List(UInt32);
  coordinatorReachable @5 :Bool;
  counters @6 :List(Counter);
  needsOperator @7 :Bool;
  struct Counter {
    name @0 :Text;
    value @1 :UInt64;
  }
}
struct CollectTrace $Wire.kind(0x0122) {}
# Payload: this segment. Six numbers per event: name, track (indices into strings), begin, length, a, b.
struct NodeTraceEvents $Wire.kind(0x0123) {
  node @0 :UInt32;
  name @1 :Text;
  nowNs @2 :Int64;
  strings @3 :List(Text);
  events @4 :List(Int64);
}
struct EnableTrace $Wire.kind(0x0124) {
  on @0 :Bool;
}
struct TraceEnabled $Wire.kind(0x0125) {}
struct ReadFigures $Wire.kind(0x0126) {}
# Payload: this segment. `rows` holds the layers' rows by expert, one layer's after the other's.
struct NodeFiguresRead $Wire.kind(0x0127) {
  node @0 :UInt32;
  incarnation @1 :UInt32;
  atNs @2 :Int64;
  numbers @3 :List(Number);
  edges @4 :List(Edge);
  layers @5 :List(UInt32);
  rowCounts @6 :List(UInt32);
  rows @7 :List(UInt32);
  struct Number {
    name @0 :Text;
    value @1 :UInt64;
  }
  struct Edge {
    peer @0 :UInt32;
    dispatches @1 :UInt64;
    answers @2 :UInt64;
    sentBytes @3 :UInt64;
    roundTripNs @4 :UInt64;
    waitNs @5 :UInt64;
  }
}

# --- the decision log ---
struct LogRecord {
  union {
    termStarted @0 :Term;
    numericPlanDecided @1 :NumericPlan;
    nodeIncarnated @2 :Incarnated;
    placementDecided @3 :Placed;
    nodeDied @4 :Died;
    nodeLeft @5 :UInt32;
  }
  struct Term {
    term @0 :UInt32;
    manifest @1 :Text;
  }
  struct Incarnated {
    node @0 :UInt32;
    incarnation @1 :UInt32;
    boot @2 :UInt64;
  }
  struct Placed {
    epoch @0 :UInt32;
    decided @1 :UInt32;
    shape @2 :UInt32;
    placement @3 :Placement;
  }
  struct Died {
    node @0 :UInt32;
    incarnation @1 :UInt32;
    epoch @2 :UInt32;
    why @3 :Text;
  }
}
