"""Search of image data for copies, doubtful labels, outliers and unusable images."""
