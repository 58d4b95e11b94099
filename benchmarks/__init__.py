"Side by side with peers: ratios from one interleaved run."
