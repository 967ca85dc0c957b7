"""Dense prediction: detection and segmentation on the four maps of an encoder."""
