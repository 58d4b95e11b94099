"Real images that ship with the package; PROVENANCE.md says where each is from."
