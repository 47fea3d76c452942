"""The scan as a Beam pipeline: wiring, counters and labels around the functions of `forebear.tracer`."""
