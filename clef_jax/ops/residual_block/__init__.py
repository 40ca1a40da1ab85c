"""The residual block of the encoder as one operation, computed in a TPU core's fast memory."""




