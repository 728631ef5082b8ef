"""What the other packages share; imports none of them."""
