"""Facts and files of networks: candidates, weights, feature maps, the model hub."""
