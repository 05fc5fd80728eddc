"""Which student will learn most from this teacher on these images: asked of the candidates themselves."""
