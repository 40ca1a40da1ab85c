"""What tables say of recordings and their patients, apart from the signals."""
