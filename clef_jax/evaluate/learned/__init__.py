"""What a pretraining has learned, measured on the patients that it held out."""
