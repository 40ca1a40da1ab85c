"""Operations with an algorithm of their own choosing."""
