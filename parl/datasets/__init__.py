"""Episodes on disk: read, written and checked. The only importer of h5py."""
